"""Names in published checkpoints, for the tests that load their numbers into our modules."""

PWAM_NAMES = {
    "query": "image_lang_att.f_query.0", "key": "image_lang_att.f_key.0", "value": "image_lang_att.f_value.0",
    "out": "image_lang_att.W.0", "pixel_branch": "vis_project.0", "fuse": "project_mm.0",
}  # fmt: skip

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refseg.fields import json_rows, parse_json

OUTLINE = [[1, 2.5, 3, 4e1, -5, 6.25]]
LINES = [
    {"mask": OUTLINE, "expression": "red"},
    {"mask": OUTLINE, "expression": 'says "mask": [[1, 2]]'},
    {"mask": [[1, 2]], "expression": "mask"},
    {"mask": [[1, 2]], "inner": {"mask": OUTLINE}},
    {"inner": {"mask": OUTLINE}, "mask": [[1, 2]]},
    {"inner": {"mask": OUTLINE}},
    {"inner": {"mask": OUTLINE}, "mask": None},
    {"mask": "masks/1.png"},
    {"mask": {"size": [3, 4], "counts": [12]}},
    {"mask": []},
    [{"mask": OUTLINE}],
    [],
    None,
    {"mask\"": OUTLINE, "mask": [[3, 4]]},
    {"mask": "\0the same"},
]  # fmt: skip
# Names that are written twice, escaped or not.
ODD = [
    '{"mask": [[1, 2]], "mask": [[3, 4]]}',
    '{"mask": [[1, 2]], "m\\u0061sk": [[5, 6]]}',
    '{"inner": {"mask": [[1, 2]]}, "m\\u0061sk": [[5, 6]]}',
    '{ "mask" :\t[[1,2]] }',
]
TEXTS = [json.dumps(line) for line in LINES] + ODD


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12))
def test_a_repeated_field_changes_nothing(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(texts), encoding="utf-8")
    found = [value for _, _, value in json_rows(path, None, "mask")]
    assert found == [json.loads(text) for text in texts]


def test_a_repeated_list_is_the_same_object(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(TEXTS[:2] * 2), encoding="utf-8")
    first, *others = (value["mask"] for _, _, value in json_rows(path, None, "mask"))
    assert all(value is first for value in others)


@pytest.mark.parametrize("line", ['{"mask": [[1, 2}', '{"mask": [[1, 2]]', '{"mask": [[1,,2]]}'])
def test_damage_behind_a_repeated_list_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"mask": [[1, 2]]}\n' + line, encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: not JSON"):
        list(json_rows(path, None, "mask"))


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "text",
    [
        nested(100),
        json.dumps(["[" * 500, "{" * 500]),
        json.dumps(['\\"[' * 300, "\\" * 301]),
        json.dumps({"[[" * 200: "é[" * 200}),
        json.dumps([[1]] * 500),
    ],
)
def test_brackets_in_strings_are_no_levels(text):
    assert parse_json(text, "here") == json.loads(text)


@pytest.mark.parametrize("text", [nested(101), '["\\"", ' + nested(100) + "]", '["\\\\", ' + nested(100) + "]"])
def test_deep_nesting_is_refused(text):
    with pytest.raises(ValueError, match="here: not JSON .nested too deeply"):
        parse_json(text, "here")

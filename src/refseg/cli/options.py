"""What several commands share: their options, and how they load and complain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

ModelOption = Annotated[
    str,
    typer.Option(help="Packaged name, folder of a model, run or export, or user/name (user/name@REVISION) on the hub."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N or mps; CUDA where there is one by default.")]
PrecisionOption = Annotated[
    str,
    typer.Option(help="fp32, bf16, int8, or auto: int8 for large networks on a CPU that multiplies bytes fast."),
]
OwnPrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="fp32, bf16, int8 or auto; fp32, or what an export has, by default.")
]
DATA_HELP = (
    "refshapes, refshapes+ or refshapesg; a folder or file in REFER, COCO, JSONL or CSV layout; or refcoco, refcoco+, "
    "refcocog-umd, refcocog-google, refclef-unc, refclef-berkeley, grefcoco below the folder REFSEG_DATA."
)
DataOption = Annotated[str, typer.Option(help=DATA_HELP)]
ImagesOption = Annotated[
    Path | None, typer.Option(help="Folder of the images, where they are not in the data set's usual place.")
]
OverlapOption = Annotated[
    str, typer.Option(help="Pixels under two parts of a mask: union, or background as LAVT has it (lavt).")
]
MaskValuesOption = Annotated[
    str | None,
    typer.Option(
        "--mask-values",
        help="Which values of a mask picture are the object: 1,2 or 'not 0,255' or '>127'; all but black by default.",
    ),
]
OrientationOption = Annotated[
    str,
    typer.Option(help="Photos with an EXIF orientation were annotated as stored or shown; fitting finds out, or asks."),
]
SkipBadOption = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out rows, images and masks that cannot be used, and count them."),
]


OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what another command or another question left there.")
]


def read_as(
    images: Path | None = None,
    overlap: str = "union",
    mask_values: str | None = None,
    orientation: str = "fitting",
    skip_bad: bool = False,
) -> Any:
    """How a data set's files are read.

    Raises:
        ValueError: An option has a value that means nothing.
    """
    from refseg.data.reading import Reading

    for option, value, accepted in (
        ("--overlap", overlap, ("union", "lavt")),
        ("--orientation", orientation, ("fitting", "stored", "shown")),
    ):
        if value not in accepted:
            raise ValueError(f"{option} {value!r}: unknown; accepted are {', '.join(accepted)}")
    return Reading(overlap, images, mask_values, orientation, skip_bad)  # type: ignore[arg-type]


def find_any_model(model: str) -> Any:
    """What `load_predictor` loads: files of the hub, or the name of one of our own models; torch is not imported.

    Raises:
        ValueError: There is no such model.
    """
    from refseg.hub_models.find import find_hub_model
    from refseg.weights.folders import find_model

    found = find_hub_model(model)
    if found is None:
        find_model(model)
    return model if found is None else found


def load_predictor(found: Any, device: str | None, precision: str | None = None) -> Any:
    """The predictor of what `find_any_model` found; says in which precision it answers where that was chosen for it.

    Without a precision it answers in fp32, or in what an export has.

    Raises:
        ValueError: There is no such device, the model is damaged, or it does not compute in that precision.
    """
    from refseg.predictor import Predictor

    predictor = Predictor.from_pretrained(found, device, precision)
    if isinstance(predictor, Predictor) and precision == "auto" and predictor.precision.name != "fp32":
        complain(f"precision {predictor.precision}; --precision fp32 is slower and exact")
    return predictor


def complain(message: str) -> None:
    """One line on stderr; of an error that carries a worker's traceback, its last line."""
    told = last_line(message) if "Traceback" in message else message.replace("\n", " ")
    typer.echo(f"refseg: {told}", err=True)


def last_line(message: object) -> str:
    """The last line of what an error says, or its class."""
    lines = str(message).strip().splitlines()
    return lines[-1] if lines else type(message).__name__

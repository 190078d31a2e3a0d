"""What the doctor says of label sets that were fitted for something else than what serves."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from alignstream.models.adapter.adapter import Adapter
from alignstream.models.adapter.steps.centre import Centre
from alignstream.models.labels.fitted_labels import FittedLabels, encode_prototypes
from alignstream.models.labels.label_set import LabelSet
from alignstream.models.registry.follower import Catalogue, Served
from alignstream.ops.admin.doctor import fitted_labels
from alignstream.streams.settings import Settings

DIM = 4
ADAPTER = Adapter("e" * 64, DIM, (Centre(np.full(DIM, 0.1, dtype=np.float32)),))


def told(tmp_path: Path, own_template: str | None = None, **changes: Any) -> list[str]:
    settings = Settings(cache_dir=tmp_path, state_dir=tmp_path)
    values: dict[str, Any] = {
        "encoder": ADAPTER.encoder, "adapter_version": ADAPTER.version, "template": settings.template,
        "dim": DIM, "prototypes": encode_prototypes(np.eye(2, DIM)), "bias": (0.0, 0.0), "temperature": 0.1,
    }  # fmt: skip
    sets = {
        "plain": LabelSet(("a", "b")),
        "topics": LabelSet(("a", "b"), template=own_template, fitted=FittedLabels(**(values | changes))),
    }
    found = Catalogue(
        MappingProxyType({"default": Served(ADAPTER, "registry", 0.0)}),
        MappingProxyType({name: Served(labels, "registry", 0.0) for name, labels in sets.items()}),
    )
    checks = fitted_labels(settings, found)
    assert all((check.name, check.state) == ("labels topics", "warning") for check in checks)
    assert all(
        check.remedy == "fit it again: 'alignstream labels fit topics --text FILE'" for check in checks
    )
    return [check.message for check in checks]


def test_nothing_is_said_of_a_set_that_serves(tmp_path: Path) -> None:
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"encoder": "f" * 64}, f"encoder {'f' * 12} while {'e' * 12} serves"),
        ({"adapter_version": "0" * 12}, f"adapter {'0' * 12} while {ADAPTER.version} serves"),
        ({"template": "{label}!"}, "the template '{label}!' while"),
    ],
)
def test_what_it_was_fitted_for_is_named(changes: dict[str, Any], why: str, tmp_path: Path) -> None:
    (message,) = told(tmp_path, **changes)
    assert message.startswith(f"was fitted for {why}")
    assert message.endswith("its plain labels serve")


def test_the_template_of_the_set_counts_before_that_of_the_worker(tmp_path: Path) -> None:
    (message,) = told(tmp_path, own_template="On {label}.")
    assert "while 'On {label}.' serves" in message

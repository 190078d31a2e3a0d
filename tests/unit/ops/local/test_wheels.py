import pytest

from alignstream.models.errors import ProcessError
from alignstream.ops.local.wheels import wheel_file


def test_a_missing_wheel_says_what_to_install() -> None:
    with pytest.raises(ProcessError, match=r"pip install 'alignstream\[embedded\]'"):
        wheel_file("no-such-distribution", "bin/x")
    with pytest.raises(ProcessError, match="holds no bin/x"):
        wheel_file("alignstream", "bin/x")

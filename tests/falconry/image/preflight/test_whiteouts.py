import pytest

from falconry.image.preflight.whiteouts import is_removed, is_whiteout

# The examples of opencontainers/image-spec, layer.md.


def test_a_whiteout_is_told_from_a_file():
    assert is_whiteout("etc/.wh.my-app-config")
    assert is_whiteout("bin/.wh..wh..opq")
    assert not is_whiteout("etc/my-app.d/default.cfg")


@pytest.mark.parametrize(
    ("path", "whiteouts", "removed"),
    [
        ("etc/my-app-config", {"etc/.wh.my-app-config"}, True),
        ("etc/my-app-config", {"etc/.wh.other"}, False),
        ("bin/tools/my-app-tool-one", {"bin/.wh..wh..opq"}, True),
        ("bin/tools/my-app-tool-one", {"bin/.wh.tools"}, True),
        ("etc/my-app-config", {"bin/.wh..wh..opq"}, False),
        ("my-app-config", {".wh.my-app-config"}, True),
        ("a/b", {".wh..wh..opq"}, True),
        ("../../b", {".wh.c"}, False),
    ],
)
def test_a_file_is_removed_by_a_whiteout_of_it_or_of_what_holds_it(path, whiteouts, removed):
    assert is_removed(path, whiteouts) is removed

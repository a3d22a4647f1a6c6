"""What is secret is for its owner alone, and looked at before it is used."""

from pathlib import Path

import pytest

from mesh.errors import StateError
from mesh.identity.private import check_private


def test_what_others_may_read_is_refused_after_what_is_gone_meanwhile(tmp_path: Path) -> None:
    private, open_, link = tmp_path / "private", tmp_path / "open", tmp_path / "link"
    for path, mode in ((private, 0o600), (open_, 0o640)):
        path.touch()
        path.chmod(mode)
    link.symlink_to(open_)

    check_private([private, tmp_path / "gone", link])
    with pytest.raises(StateError, match="mode 0640"):
        check_private([tmp_path / "gone", open_])

"""The libraries that an image needs are read from what ldd prints."""

from __future__ import annotations

from e2e.without_docker.control_plane_images import libraries_in

LDD = """\
/usr/sbin/nft:
\tlinux-vdso.so.1 (0x00007ffd)
\tlibnftables.so.1 => /lib/x86_64-linux-gnu/libnftables.so.1 (0x00007f1)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f3)
/usr/lib/x86_64-linux-gnu/xtables/libxt_comment.so:
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)
"""


def test_libraries_and_loader_are_listed_once_and_the_kernels_own_is_not() -> None:
    assert libraries_in(LDD) == [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/x86_64-linux-gnu/libnftables.so.1",
        "/lib64/ld-linux-x86-64.so.2",
    ]

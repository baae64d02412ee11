"""Checks of who is let in: Ray's token, and a knock at the cluster's door."""

from __future__ import annotations

from raffect.jobs.doctor.facts import Code, Knock, Token
from raffect.jobs.doctor.findings import Finding, failed, passed, warned

_OTHERS = 0o077
_GIVE_TOKEN = "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH with a copy of the cluster's token."
_USE_TOKENS = "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH, on all nodes and before Ray starts."


def check_token(token: Token, joins: bool) -> Finding:
    """Check a process's token.

    Args:
        token: Where it is.
        joins: Whether a cluster is joined, rather than one started by raffect for itself.
    """
    on = token.mode == "token" or (not joins and not token.mode)
    if not on:
        state = f"RAY_AUTH_MODE={token.mode}" if token.mode else "RAY_AUTH_MODE is not set"
        return warned("token", f"{state}: no token is used", _USE_TOKENS)
    if token.problem:
        return failed("token", f"{token.source}: {token.problem}", "Correct RAY_AUTH_TOKEN_PATH.")
    if token.permissions is not None and token.permissions & _OTHERS:
        return warned(
            "token",
            f"{token.source} can be read by others (mode {token.permissions:04o})",
            f"chmod 600 {token.source}; if others were about, make a new token.",
        )
    if not token.source and joins:
        return failed("token", "RAY_AUTH_MODE=token, but there is no token", _USE_TOKENS)
    return passed("token", f"on, from {token.source}" if joins else "on, where raffect starts Ray")


def check_reach(knock: Knock, driver: Code, address: str) -> Finding:
    """Check that the cluster answers this process, and runs the same Ray and Python."""
    if knock.answer == "refused":
        return failed(
            "reach", f"{address} refuses this token, or wants one: {knock.text}", _GIVE_TOKEN
        )
    if knock.answer != "open":
        return failed(
            "reach",
            f"no cluster answers at {address}: {knock.text}",
            "Check --address or RAY_ADDRESS, and `ray status` on the head node.",
        )
    ours = {"Ray": driver.packages.get("ray", "none"), "Python": driver.python}
    theirs = {"Ray": knock.ray, "Python": knock.python}
    if ours != theirs:
        return failed(
            "reach",
            f"the cluster runs {_versions(theirs)}; the driver {_versions(ours)}",
            "Ray lets in the very same versions only: run it from the cluster's environment.",
        )
    return passed("reach", f"{address} answers, {_versions(theirs)}")


def check_stranger(knock: Knock) -> Finding:
    """Check that the cluster refuses who comes without a token."""
    if knock.answer == "refused":
        return passed("strangers", "refused without the token")
    if knock.answer == "open":
        return warned(
            "strangers",
            "let in without a token: whoever reaches the head node runs code on all nodes",
            _USE_TOKENS,
        )
    return warned(
        "strangers",
        f"it could not be told whether they are let in: {knock.text}",
        "Give the command again.",
    )


def _versions(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())

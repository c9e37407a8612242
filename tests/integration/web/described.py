"""Holds a running web server to its own OpenAPI document, with schemathesis."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from meshcore import Node, UnreachableError


def call_nobody(node: Node) -> None:
    """Have a node answer registries that connect, and call none: their addresses are made up."""

    async def carry(url: str, kind: str, message: dict[str, Any]) -> dict[str, Any]:
        raise UnreachableError("nobody is called in this test")

    node.catalogue.use_http(node.http_url or "", carry)


async def check(
    url: str, *, examples: int, seed: int, directory: Path, token: str | None = None
) -> tuple[int, str]:
    """Exit code and report of all checks; `directory` is for what schemathesis keeps."""
    more = [] if token is None else ["--header", f"Authorization: Bearer {token}"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "schemathesis.cli", "--no-color", "run", f"{url}/openapi.json"),
        *("--checks", "all", "--mode", "all"),
        *("--max-examples", str(examples), "--seed", str(seed)),
        *more,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory,
    )
    try:
        out, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(errors="replace")


def summary(report: str) -> str:
    """How many test cases there were, in one line."""
    lines = [line.strip() for line in report.splitlines()]
    return next((line for line in lines if " generated" in line), "no test cases")

"""Write what the documentation must not get wrong by hand: the tables of scorers, selectors and jobs, and methods.md.

`make docs` runs it; a test fails when its output is not what is committed.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from tracesift.flows.job_list import described
from tracesift.scorers import contract as scorers
from tracesift.selectors import contract as selectors

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from benchmark_tables import benchmarks_page, measured_json  # noqa: E402 - a neighbour, not a package


def main() -> None:
    """Write every generated file."""
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")


def generated() -> dict[Path, str]:
    """Return the generated files: path -> text."""
    readme = ROOT / "README.md"
    text = between(readme.read_text(encoding="utf-8"), "scorers", scorer_table())
    return {
        readme: between(text, "selectors", selector_table()),
        ROOT / "docs" / "methods.md": methods(),
        ROOT / "docs" / "signals.md": signals(),
        ROOT / "docs" / "benchmarks.md": benchmarks_page(),
        ROOT / "selectors" / "measured.json": measured_json(),
    }


def between(text: str, name: str, table: str) -> str:
    """Return `text` with the part between the marks of `name` replaced."""
    start, end = f"<!-- {name}: generated -->", f"<!-- end of {name} -->"
    before, rest = text.split(start)
    return before + start + "\n" + table + end + rest.split(end)[1]


def scorer_table() -> str:
    """Return the README's table of scorers."""
    rows = ["| scorer | high means | recording | inputs | what it is |", "| --- | --- | --- | --- | --- |"]
    for name in scorers.names():
        known = scorers.find(name)
        inputs = ", ".join(f"`{one}`" for one in known.inputs)
        rows.append(f"| `{name}` | {known.high_means} | {_recording(known)} | {inputs} | {known.summary} |")
    return "\n".join(rows) + "\n"


def _recording(known: scorers.Scorer) -> str:
    """Return what a scorer reads: a mode, the job that makes its signals, or any recording."""
    return ", ".join(f"job `{job}`" for job in known.jobs) or known.mode or "any"


def selector_table() -> str:
    """Return the README's table of selectors."""
    rows = ["| selector | size | what it does |", "| --- | --- | --- |"]
    for name in selectors.names():
        known = selectors.find(name)
        rows.append(f"| `{name}` | {'budget' if known.budget else 'decides itself'} | {known.summary} |")
    return "\n".join(rows) + "\n"


def signals() -> str:
    """Return docs/signals.md with its tables of the jobs and of their settings."""
    text = (ROOT / "docs" / "signals.md").read_text(encoding="utf-8")
    jobs = described()
    rows = ["| job | what it does | data | read by |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{one.name}` | {_cell(one.summary)} | {', '.join(one.data)} | {_names(one.read_by)} |"
        for one in jobs
    ]
    text = between(text, "jobs", "\n".join(rows) + "\n")
    rows = ["| job | setting | default | takes | what it is |", "| --- | --- | --- | --- | --- |"]
    rows += [
        f"| `{one.name}` | `{each.name}` | `{each.default}` | {each.takes} | {_cell(each.meaning)} |"
        for one in jobs
        for each in one.settings
    ]
    return between(text, "settings of jobs", "\n".join(rows) + "\n")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _names(told: Sequence[str]) -> str:
    """Return names as code, without what stands in brackets behind them."""
    parts = (one.partition(" (") for one in told)
    return ", ".join(f"`{name}`{bracket}{rest}" for name, bracket, rest in parts)


def methods() -> str:
    """Return docs/methods.md: every scorer and selector as its docstring tells it."""
    parts = ["# Methods\n\nGenerated from the docstrings by `make docs`.\n"]
    parts += [_section(scorers.find(name), "##") for name in scorers.names()]
    parts.append("\n# Diagnostics of a whole dataset\n")
    parts += [_section(scorers.find_diagnostic(name), "##") for name in scorers.diagnostics()]
    parts.append("\n# Selectors\n")
    for name in selectors.names():
        known = selectors.find(name)
        parts.append(
            f"\n## `{name}`\n\nVersion {known.version}{'; experimental' if known.experimental else ''}. "
            f"{known.reference}\n\n{_text(known.function)}\n"
        )
    return "".join(parts)


def _section(known: scorers.Scorer, level: str) -> str:
    facts = [
        f"version {known.version}",
        f"recording {_recording(known)}" if known.jobs else f"mode {known.mode or 'any'}",
    ]
    if known.direction:
        facts.append(f"high means {known.high_means}")
    if known.combine:
        facts.append(f"several runs: {known.combine}")
    if known.experimental:
        facts.append("experimental")
    settings = ", ".join(f"`{name}={value!r}`" for name, value in known.defaults.items()) or "none"
    inputs = ", ".join(f"`{name}`" for name in (*known.inputs, *known.optional))
    return (
        f"\n{level} `{known.name}`\n\n{'; '.join(facts).capitalize()}. Inputs: {inputs}. Settings: {settings}.\n"
        f"Source: {known.reference}\n\n{_text(known.function)}\n"
    )


def _text(function: object) -> str:
    return "```text\n" + (inspect.getdoc(function) or "").strip() + "\n```"


if __name__ == "__main__":
    main()

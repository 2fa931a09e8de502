"""Runs every parity module against a directory of recorded values and says what came out."""

import dataclasses
import importlib
import pathlib
from typing import Any, Callable, Iterable

import jax
import tqdm

from alpamayo_jax.convert import parameter_count
from alpamayo_jax.metrics.tables import text_table, write_summary
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.parity.base import Check, Reference

MODULES = (
    "action_space",
    "history_tokens",
    "flow",
    "metrics",
    "rewards",
    "processor",
    "prompt",
    "model",
    "sft_loss",
    "parameters",
    "closed_loop",
)


@dataclasses.dataclass
class Report:
    """Outcome of a run.

    Attributes:
      checks: every compared quantity.
      errors: module -> why it could not be run.
      absent: module -> files it needs that the directory lacks.
      parameters_10b: parameter count of the 10B preset.
    """

    checks: list[Check] = dataclasses.field(default_factory=list)
    errors: dict[str, str] = dataclasses.field(default_factory=dict)
    absent: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    parameters_10b: int = 0

    @property
    def failed(self) -> list[str]:
        """One line for everything that is off."""
        off = [
            f"{c.module}: {c.quantity}: error {c.error:.3g} above {c.tolerance:g}"
            for c in self.checks
            if not c.passed
        ]
        return off + [f"{module}: {error}" for module, error in self.errors.items()]

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing is off."""
        return bool(self.checks) and not self.failed

    def max_relative_error(self) -> dict[str, float]:
        """Largest relative error of each module that ran."""
        worst: dict[str, float] = {}
        for check in self.checks:
            # NaN never wins a comparison, so it is made to.
            error = check.relative_error if check.relative_error >= 0 else float("inf")
            worst[check.module] = max(worst.get(check.module, 0.0), error)
        return worst

    def table(self) -> str:
        """One line per check, then what could not be run, what was absent, and the verdict."""
        rows: list[dict[str, Any]] = [
            {
                "module": check.module,
                "quantity": check.quantity,
                "error": f"{check.error:.2e}",
                "tolerance": f"{check.tolerance:.0e}" if check.tolerance else "exact",
                "ok": "ok" if check.passed else "OFF",
            }
            for check in self.checks
        ]
        columns = ("module", "quantity", "error", "tolerance", "ok")
        lines = [text_table(rows, columns)]
        lines += [f"FAILED  {module}: {error}" for module, error in self.errors.items()]
        lines += [f"absent  {name}: no {', '.join(files)}" for name, files in self.absent.items()]
        agree = sum(check.passed for check in self.checks)
        verdict = "passed" if self.passed else "FAILED"
        if not self.checks:
            verdict += ", nothing could be checked"
        lines.append(
            f"{verdict}: {agree} of {len(self.checks)} quantities agree, {len(self.errors)} "
            f"modules could not be run, {len(self.absent)} are absent"
        )
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "passed": self.passed,
            "max_relative_error": self.max_relative_error(),
            "parameters_10b": self.parameters_10b,
            "num_checks": len(self.checks),
            "failed": self.failed,
            "absent": list(self.absent),
        }


def _module(name: str):
    return importlib.import_module(f"alpamayo_jax.testing.parity.{name}")


def run(
    directory: str | pathlib.Path,
    modules: Iterable[str] = MODULES,
    progress: Callable[[Iterable[str]], Iterable[str]] = lambda names: tqdm.tqdm(names, "parity"),
    load: Callable[[str], Any] = _module,
) -> Report:
    """Runs all parity modules; one that raises is reported and does not stop the others.

    Args:
      directory: recorded values.
      modules: names in alpamayo_jax.testing.parity.
      progress: wraps the names while they are worked on.
      load: name -> module with REQUIRES and checks(reference).

    Raises:
      InputError: no such directory.
    """
    reference = Reference(directory)
    report = Report(parameters_10b=parameter_count(preset("r1_10b")))
    # An accelerator's fast matrix products are not what was recorded.
    with jax.default_matmul_precision("highest"):
        for name in progress(tuple(modules)):
            module = None
            try:
                module = load(name)
                missing = [file for file in module.REQUIRES if not reference.has(file)]
                if missing:
                    report.absent[name] = missing
                else:
                    report.checks += module.checks(reference)
            except Exception as error:  # whatever breaks one part, the others are still reported
                files = f" (reads {', '.join(module.REQUIRES)})" if module else ""
                text = " ".join(str(error).split())
                report.errors[name] = f"{type(error).__name__}: {text}{files}"
    return report


def main(directory: str | pathlib.Path, workdir: str | pathlib.Path) -> int:
    """Runs everything, prints the table, writes `workdir`/summary.json; 0 if all agrees, else 1."""
    report = run(directory)
    print(report.table())
    write_summary(pathlib.Path(workdir) / "summary.json", report.summary())
    return 0 if report.passed else 1

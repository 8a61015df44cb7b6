"""A command line: planned, printed, run, and named when it fails."""

import dataclasses
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

_FLAG = re.compile(r"(--[A-Za-z][-.\w]*=)(.+)", re.DOTALL)


class LaunchError(Exception):
  """What a user can mend.

  Attributes:
    code: What the launcher exits with.
  """

  def __init__(self, message: str, *, code: int = 1):
    super().__init__(message)
    self.code = code


@dataclasses.dataclass(frozen=True)
class State:
  """What a command has to say before the next one makes sense.

  Attributes:
    wanted: The output that lets the plan go on.
    passing: Outputs after which it is asked again.
    hint: What to do after any other output.
    period: Seconds between two questions.
  """

  wanted: str
  passing: tuple[str, ...]
  hint: str
  period: float = 30.0


@dataclasses.dataclass(frozen=True)
class Command:
  """One command line.

  Attributes:
    argv: Program and arguments, quoted for nobody.
    state: If given, the command only asks, and this is what it asks for.
    note: Printed behind the command, as a comment.
  """

  argv: tuple[str, ...]
  state: State | None = None
  note: str = ""

  def __str__(self) -> str:
    """The line to paste into a shell."""
    note = self.note
    if self.state and not note:
      again = "repeated until" if self.state.passing else "has to say"
      note = f"{again} {self.state.wanted}"
    return join(self.argv) + (f"  # {note}" if note else "")


def join(argv: Sequence[str]) -> str:
  """Quotes words for a shell: `--flag='a value'`, not `'--flag=a value'`."""
  return " ".join(
    found[1] + shlex.quote(found[2])
    if (found := _FLAG.fullmatch(word))
    else shlex.quote(word)
    for word in argv
  )


def command(*argv: object, **fields) -> Command:
  """Returns the command of these words."""
  return Command(tuple(str(word) for word in argv), **fields)


def shell(script: str) -> Command:
  """Returns the command that has a shell interpret `script`."""
  return command("sh", "-c", script)


def execute(plan: Sequence[Command], *, dry_run: bool) -> None:
  """Prints a plan, or runs it up to the first failure.

  Args:
    plan: Commands, in order.
    dry_run: Whether to print to stdout and run nothing. Otherwise each command
      is shown on stderr as it starts.

  Raises:
    LaunchError: A command failed, is not installed, or answered with a state
      that the next command cannot follow.
  """
  for step in plan:
    if dry_run:
      print(step)
      continue
    show(step)
    if step.state:
      _await_state(step, step.state)
    else:
      run(step)


def show(step: Command) -> None:
  """Says on stderr what is about to run."""
  print(f"+ {step}", file=sys.stderr, flush=True)


def run(step: Command) -> None:
  """Runs a command with this program's own input and output."""
  _checked(step, capture=False)


def output(step: Command) -> str:
  """Runs a command and returns what it wrote, without surrounding space."""
  return _checked(step, capture=True).strip()


def exit_code(returncode: int) -> int:
  """Returns the exit code a shell would report: 128 + n for signal n."""
  return 128 - returncode if returncode < 0 else returncode


def _checked(step: Command, *, capture: bool) -> str:
  try:
    result = subprocess.run(
      step.argv, stdout=subprocess.PIPE if capture else None, text=True
    )
  except FileNotFoundError:
    raise LaunchError(
      f"{step.argv[0]} is not installed, or not on PATH; needed for:\n  {step}",
      code=127,
    ) from None
  if result.returncode:
    code = exit_code(result.returncode)
    raise LaunchError(f"Exit code {code} from:\n  {step}", code=code)
  return result.stdout or ""


def _await_state(step: Command, state: State) -> None:
  seen = None
  while (answer := output(step)) != state.wanted:
    if answer not in state.passing:
      raise LaunchError(
        f"Expected {state.wanted}, got {answer or 'nothing'} from:\n"
        f"  {step}\n{state.hint}"
      )
    if answer != seen:
      print(answer, file=sys.stderr, flush=True)
      seen = answer
    time.sleep(state.period)

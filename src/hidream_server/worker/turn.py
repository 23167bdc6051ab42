"""What all ranks of a group do between two broadcasts."""

from dataclasses import dataclass, field

from hidream_server.ipc.messages import CancelTask, StartTask
from hidream_server.scheduling.active_task import Share


@dataclass(frozen=True, slots=True)
class Turn:
    """Drop tasks, admit some, begin those whose prompts are encoded, and run one step.

    Or, before that, take images further that need no forward for their next step.
    """

    cancel: list[CancelTask] = field(default_factory=list)
    admit: list[StartTask] = field(default_factory=list)
    #: Numbers of tasks.
    begin: list[int] = field(default_factory=list)
    #: Images by their task's number and their place in it. Rank 0 says which: a rank that rounded
    #: otherwise, and came to another answer, would leave the others alone in a forward.
    reuse: list[tuple[int, int]] = field(default_factory=list)
    #: Whose images take part in the step; none: there is no step.
    step: list[Share] = field(default_factory=list)
    leave: bool = False

    @property
    def is_news(self) -> bool:
        """It changes what there is to run."""
        return bool(self.cancel or self.admit or self.begin)

"""One of several processes that use a site's registry at the same time.

    python -m tests.sam_adapters.busy_writer <site> <folder of adapters> <number> <turns>

Each turn opens the registry anew (which clears up after the dead), adds a version, activates it or rolls back, records a round and logs
a label, then says `did <turn>`. With 0 turns: says `ready`, then makes the registry of each site that a line of input names, adds one
version to it and says `did`.
"""

import sys
from pathlib import Path

from sam_adapters.errors import RegistryError
from sam_adapters.label_log import LabelEntry, LabelLog
from sam_adapters.registry import Registry, RoundRecord
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_adapter import toy_provenance


def main(site: SiteDirectory, adapters: Path, number: int, turns: int) -> None:
    if turns == 0:
        say("ready")
        for line in sys.stdin:
            with Registry(SiteDirectory(Path(line.strip()))) as registry:
                registry.add(adapters / "0", toy_provenance())
            say("did")
    for turn in range(turns):
        one_turn(site, adapters, number, turn)
        say(f"did {turn}")


def one_turn(site: SiteDirectory, adapters: Path, number: int, turn: int) -> None:
    made = sorted(adapters.iterdir(), key=lambda path: int(path.name))
    with Registry(site) as registry:
        # Writers 0 to 3 meet on the same contents now and then; together they go through all of them.
        version = registry.add(made[(5 * number + turn) % len(made)], toy_provenance())
        if (turn + number) % 3 == 2:
            try:
                registry.rollback(reason="worse", by=str(number))
            except RegistryError as error:
                if "nothing to roll back to" not in str(error):
                    raise
        else:
            registry.activate(version.id, reason="better", by=str(number))
        registry.record_round(RoundRecord("chaos", turn % 5, bytes_up={str(number): turn}))
    LabelLog(site.label_log_file).append(LabelEntry(f"case-{number}-{turn}", "final", "0" * 64, who=str(number)))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(SiteDirectory(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

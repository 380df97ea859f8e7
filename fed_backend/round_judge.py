"""Who is believed in one round: `plausibility`'s checks in their order, and what follows from them for `quarantine`. No torch.

    judge = RoundJudge(state, number, state_folder)
    judge.update(message)            as each update arrives      -> a sentence if it is refused
    judge.together(state, sites)     when all have arrived       -> site -> sentence
    judge.reply(site, halves)        as each probe reply arrives -> a sentence
    judge.agreement(state, …)        before mixtures are made    -> site -> sentence
    judge.settle(state, sites)       what is left was plausible  -> site -> sentence, of those still in quarantine
    judge.withheld(state)            sites whose adapters enter nothing

Refusals are on the disk before they have an effect. Without a folder nothing outlives the round. One thread; see `quarantine` for the lock.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from fed_backend import plausibility, quarantine, sgca
from fed_backend.plausibility import Evidence, Halves
from fed_backend.projection import project
from fed_backend.quarantine import TrustBook
from fed_backend.server_state import ServerState
from fed_backend.wire import UpdateMessage
from sam_adapters.schema import AdapterState

_HEARD_ALL_THE_SAME = "It says that it adds noise for privacy, but its probe has so little that others hear it: it is judged like all. "


class RoundJudge:
    """The checks of one round. See the module for the order of calls."""

    def __init__(self, state: ServerState, number: int, folder: Path | None = None) -> None:
        """
        Args:
            state: as the round found it; a site's adapters in there are its past.
            number: of the round.
            folder: the server's state folder; None keeps everything in memory.

        Raises:
            ServerStateError: the file of what is remembered cannot be read.
        """
        self._number = number
        self._folder = folder
        self._book = quarantine.load(folder) if folder else TrustBook()
        withheld = self.withheld(state)
        self._past = {site: record.state for site, record in state.sites.items() if record.last_round < number and site not in withheld}
        self._memories: dict[str, list[float]] = {}
        self._halves: dict[str, Halves] = {}
        self._noised: set[str] = set()

    def withheld(self, state: ServerState) -> frozenset[str]:
        """Sites whose adapters, as `state` has them, enter no mixture."""
        return self._book.withheld({site: record.last_round for site, record in state.sites.items()})

    def update(self, message: UpdateMessage, *, is_noised: bool = False) -> str | None:
        """Why an update is refused whatever the others sent. `is_noised`: the site says that its privacy rule adds noise."""
        vector = message.state.to_vector()
        reason = plausibility.check_empty(message.cases, float(abs(vector).max(initial=0)))
        if reason is None:
            self._memories[message.site] = plausibility.memory_of(message.state)
            if is_noised:
                self._noised.add(message.site)
        return self._refused({message.site: reason} if reason else {}).get(message.site)

    def first_seen(self, site: str) -> int | None:
        """The round in which the site sent the same adapters before, if it has sent others since."""
        return self._book.of(site).first_seen(self._memories[site])

    def together(self, state: ServerState, sites: Collection[str]) -> dict[str, str]:
        """Why updates of `sites` are refused beside the others'."""
        withheld = self.withheld(state) - set(sites)
        norms = {site: sgca.norm(record.state) for site, record in state.sites.items() if site not in withheld}
        memories = {site: self._memories[site] for site in sites if site in self._memories and state.sites[site].cases > 0}
        found = plausibility.check_copies(memories, {site: self._book.of(site).sent for site in memories})
        found |= {site: reason for site, reason in plausibility.check_norms(norms).items() if site in set(sites) - self._noised}
        return self._refused(found)

    def reply(self, site: str, halves: Halves) -> str | None:
        """Why a probe reply is refused, and the site's update with it."""
        reason = plausibility.check_halves(halves, is_noised=site in self._noised)
        if reason is None:
            self._halves[site] = halves
        return self._refused({site: reason} if reason else {}).get(site)

    def agreement(
        self, state: ServerState, sites: Iterable[str], probe_seed: int, weights: Mapping[str, Mapping[str, float]]
    ) -> dict[str, str]:
        """Why updates of `sites` are refused because nothing speaks for them.

        Noise agrees with nothing, and is large. A site that says it adds noise is let be while nobody hears it, as its probe must have
        it: what it has kept out of its probe does not excuse its update.

        Args:
            probe_seed: of the round's projection.
            weights: receiver -> giver -> weight, if all were believed.
        """
        heard = {site for site in self._noised if any(plausibility.hearers(site, weights, weights))}
        let_be = self._noised - heard
        judged = [site for site in sites if site in self._memories and site not in let_be]
        withheld = self.withheld(state) - set(judged)
        states = {site: record.state for site, record in state.sites.items() if site not in withheld and site not in let_be}
        others = plausibility.agreement_with_hearers(plausibility.sketches(states, probe_seed), weights)
        norms = plausibility.check_norms({site: sgca.norm(adapters) for site, adapters in states.items()}) if heard else {}
        found = {}
        for site in judged:
            evidence = self._evidence(site, states[site], others, probe_seed)
            reason = plausibility.check_evidence(evidence, self._probe_size(site))
            if site in heard:
                reason = norms.get(site) or reason
                reason = reason and _HEARD_ALL_THE_SAME + reason
            if reason:
                found[site] = reason
        return self._refused(found)

    def settle(self, sites: Iterable[str]) -> dict[str, str]:
        """Remember that the updates of `sites` were plausible; what is said to those that give nothing all the same."""
        told = {site: self._book.of(site).reason for site in sites if self._number in self._book.of(site).strikes}
        plausible = {site: memory for site, memory in self._memories.items() if site in sites and site not in told}

        def step(book: TrustBook) -> TrustBook:
            for site, memory in plausible.items():
                book = quarantine.with_plausible(book, site, self._number, memory)
            return book

        self._change(step)
        return told | {site: quarantine.notice(trust) for site, trust in self._book.quarantined().items() if site in plausible}

    def sent(self, mixtures: Mapping[str, AdapterState]) -> None:
        """Remember what was sent to whom."""
        memories = {site: plausibility.memory_of(state) for site, state in mixtures.items()}

        def step(book: TrustBook) -> TrustBook:
            for site, memory in memories.items():
                book = quarantine.with_sent(book, site, memory)
            return book

        self._change(step)

    def _evidence(self, site: str, state: AdapterState, agreement: Mapping[str, float], probe_seed: int) -> Evidence:
        halves, past = self._halves.get(site), self._past.get(site)
        gradient, against = math.nan, math.nan
        if halves is not None and state.to_vector().any():
            projected = project(state.to_vector(), seed=probe_seed, size=len(halves.a))
            gradient, against = plausibility.agreement_with_probe(projected, halves)
        history = math.nan if past is None else plausibility.cosine(state.to_vector(), past.to_vector())
        return Evidence(agreement[site], plausibility.usual_agreement(agreement, site), gradient, against, history)

    def _probe_size(self, site: str) -> int:
        return len(self._halves[site].a) if site in self._halves else plausibility.SKETCH_SIZE

    def _refused(self, found: Mapping[str, str]) -> dict[str, str]:
        """Write down what was found."""

        def step(book: TrustBook) -> TrustBook:
            for site, reason in found.items():
                book = quarantine.with_strike(book, site, self._number, reason)
            return book

        if found:
            self._change(step)
        return {site: reason + self._quarantine_sentence(site) for site, reason in found.items()}

    def _quarantine_sentence(self, site: str) -> str:
        if self._book.of(site).since is None:
            return ""
        return f" In quarantine since round {self._book.of(site).since}: {quarantine.GOOD_UPDATES} plausible updates in a row end it."

    def _change(self, step: quarantine.Step) -> None:
        self._book = quarantine.change(self._folder, step) if self._folder else step(self._book)

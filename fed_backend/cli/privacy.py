"""What a privacy rule has cost a site, and what it leaves of an update: said where somebody can still change it."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fed_backend.member import Member
    from fed_backend.run_config import FederationSettings
    from sam_adapters.schema import AdapterSchema


def print_spent(member: "Member") -> None:
    """What the site has spent of its own budget, if it has one, and what its rule leaves of the version that would leave next."""
    from fed_backend.member import learnt_norm
    from fed_backend.outgoing import PRIVACY_FOLDER
    from fed_backend.privacy import PRIVACY_FILE, read_rule
    from fed_backend.privacy_accounting import epsilon_of
    from fed_backend.privacy_ledger import PrivacyLedger
    from sam_adapters.errors import FedscaError

    rule = read_rule(member.site.root / PRIVACY_FILE)
    if rule is None:
        return
    ledger = PrivacyLedger(member.site.root / PRIVACY_FOLDER, epsilon_of)
    spent, releases = ledger.epsilon(rule.delta), len(ledger.entries())
    typer.echo(f"Privacy: ε {spent:.4g} of {rule.epsilon:g} spent at δ {rule.delta:g} (this site's rule), {releases} releases")
    try:
        norm, size = learnt_norm(member)
    except FedscaError as error:  # damaged adapters: the rest of the status is wanted then more than ever
        typer.echo(str(error))
    else:
        typer.echo(f"By that rule, {rule.price(size, norm)}")


def print_asked(settings: "FederationSettings", schema: "AdapterSchema") -> None:
    """What the rule that a federation asks for will leave of its sites' updates, if it asks for one."""
    rule = settings.privacy_rule()
    if rule is not None:
        typer.echo(f"By the privacy rule that every site is asked to follow, {rule.price(schema.size)}")

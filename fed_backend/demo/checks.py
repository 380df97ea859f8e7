"""The claims that every demo tests, whatever they turn out to be. Pure functions of the result."""

from fed_backend.demo.result import CheckEntry, DemoResult, HospitalEntry, mean_over_hospitals, scored_phases

BOX_GAIN = 0.05
"""By how much the mean box Dice over hospitals is meant to rise above the untuned base."""


def checks(result: DemoResult) -> list[CheckEntry]:
    """Box gain, box against fill-the-box, and per hospital: active version against its own base on its validation cases."""
    return [_box_gain(result), _above_fill(result), *(_not_below_base(hospital) for hospital in result["hospitals"])]


def _figures(result: DemoResult) -> tuple[float | None, float | None]:
    """Mean box Dice over hospitals in the first and the last scored phase."""
    phases = scored_phases(result)
    if len(phases) < 2:
        return None, None
    return mean_over_hospitals(result, phases[0]["id"], "box"), mean_over_hospitals(result, phases[-1]["id"], "box")


def _box_gain(result: DemoResult) -> CheckEntry:
    title = f"Mean box-prompted test Dice rises by at least {BOX_GAIN:.2f}"
    base, final = _figures(result)
    if base is None or final is None:
        return {"id": "box_gain", "title": title, "met": None, "text": "not every hospital was scored before and after"}
    gain = final - base
    return {"id": "box_gain", "title": title, "met": gain >= BOX_GAIN, "text": f"{base:.3f} to {final:.3f}, {gain:+.3f}"}


def _above_fill(result: DemoResult) -> CheckEntry:
    title = "Mean box-prompted test Dice lies above filling the box"
    _, final = _figures(result)
    fills = [hospital["fill_the_box"] for hospital in result["hospitals"]]
    known = [value for value in fills if value is not None]
    if final is None or not known or len(known) != len(fills):
        return {"id": "above_fill", "title": title, "met": None, "text": "not every hospital was scored"}
    fill = sum(known) / len(known)
    return {"id": "above_fill", "title": title, "met": final > fill, "text": f"{final:.3f} against {fill:.3f}"}


def _not_below_base(hospital: HospitalEntry) -> CheckEntry:
    name = hospital["name"]
    check: CheckEntry = {
        "id": f"not_below_base:{name}",
        "title": f"{name}: the active version is not below the untuned base on the validation cases",
        "met": None,
        "text": "validation cases were not scored",
    }
    scores = hospital["validation"]
    if scores is None or not scores["base"]:
        return check
    parts = [f"{kind} {scores['base'][kind]:.3f} to {scores['active'][kind]:.3f}" for kind in scores["base"]]
    check["met"] = all(scores["active"][kind] >= scores["base"][kind] for kind in scores["base"])
    check["text"] = f"{', '.join(parts)} ({scores['cases']} cases)"
    return check

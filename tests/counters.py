"""A processor's energy counter as Linux shows it: a folder of small files."""

from pathlib import Path

RANGE = 262_143_328_850  # of a server's package, in microjoules


def domain(powercap: Path, folder: str, name: str, energy_uj: int = 0, most: int = RANGE) -> Path:
    """Make a domain's folder; the file of its counter."""
    place = powercap / folder
    place.mkdir(parents=True)
    for file, content in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", most)):
        (place / file).write_text(f"{content}\n")
    return place / "energy_uj"

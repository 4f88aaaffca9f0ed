"""`python -m raysweep.track DIR`: ship a sweep's journal to its trackers while the sweep writes it."""

import argparse
from pathlib import Path

from raysweep.garbage import collect_rarely
from raysweep.track.process import serve

parser = argparse.ArgumentParser(prog="python -m raysweep.track", description=__doc__)
parser.add_argument("directory", type=Path, help="the sweep's folder")
parser.add_argument("--parent", type=int, default=None, help="process of the sweep; its end is the shipper's")
arguments = parser.parse_args()
collect_rarely()
serve(arguments.directory.resolve(), arguments.parent)

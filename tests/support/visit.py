"""A browser: `visit.py URL` opens the page, as one does who says yes to everything."""

from __future__ import annotations

import sys
import urllib.request

if __name__ == "__main__":
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(sys.argv[1], timeout=30) as page:
        page.read()

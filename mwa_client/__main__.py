"""``python -m mwa_client``: the command, where its script is not on the path."""

import sys

from mwa_client.cli.main import main

sys.exit(main())

"""`python -m mesh.controlplane`."""

import sys

from mesh.controlplane.main import main

sys.exit(main())

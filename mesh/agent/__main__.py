import sys

from mesh.agent.main import main

sys.exit(main())

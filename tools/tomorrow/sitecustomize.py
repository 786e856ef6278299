"""What Python 3.14 does by default, done in every process of `nox -s tomorrow`.

Python imports a module of this name at its start, wherever PYTHONPATH leads to one.
"""

import multiprocessing

multiprocessing.set_start_method("forkserver")

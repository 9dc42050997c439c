"""The parts of the pytest plugin.

* :mod:`settings`: options, ini options and marks, and what they say together.
* :mod:`marks`: which tests use machines.
* :mod:`session`: what one process has to do with machines: pools, leases, and what they cost.
* :mod:`evidence`: what the report of a failed test gets.
* :mod:`lost`: tests whose machine was lost are run again.
* :mod:`owner`: whose a session's pools are; :mod:`keeper`: removes them when that process has died.
* :mod:`workers`: workers of xdist, the end of a session, and its summary.
"""

"""A simulated Drive, with everything that goes wrong with the real one.

cloud.py      what survives every machine: contents and what Drive's API says of them
faults.py     what goes wrong, as one value; seeded
carrier.py    brings what was closed on a machine to the cloud: late, in another order, or not at all
mount.py      Drive mounted by FUSE, a process of its own with the extended attributes of the real one
folder.py     the same for a plain folder, where there is no FUSE: without errors and hangs
simulated.py  what tests hold: mount it, let the machine die, mount it again
"""

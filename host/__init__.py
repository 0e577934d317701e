"""Machine, as the builder of images and the end-to-end cluster both need it.

Programs are run, steps told, Debian packages unpacked, a Debian bootstrapped, disks and locks looked
after. Standard library alone: what removes a cluster, or tells what a machine lacks, runs on a bare Python.
"""

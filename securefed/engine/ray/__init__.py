"""A simulation whose hospitals are spread over Ray's workers, on one machine or on a cluster.

    worker       an actor: a part of the hospitals, in a process of its own
    hospitals    all parts together, as a simulation holds its hospitals; the transport to them
    cluster      Ray started or joined, and left again
    runs         a run on them; a worker that dies costs its round, and the run goes on

Ray carries bytes and calls between processes of one owner and decides nothing: what a hospital and
the server do is the code of `simulation`, and the results are the same to the last bit. It is a
simulation: all hospitals' patients are on one cluster, whose owner can read everything, and Ray's
own channels are not encrypted unless the cluster is set up so. Real hospitals use engine/flare.

Ray passes arguments and results between its processes with pickle, and may spill large ones to its
session's folder on disk for as long as the session lasts; nothing that this program reads back
later is such a file. What travels: patients on their way to their worker, messages, epsilons. What
does not: identity keys, which are made in the worker. What is logged by a worker goes to the run's
own log, not to Ray's.

Only this folder imports ray.
"""

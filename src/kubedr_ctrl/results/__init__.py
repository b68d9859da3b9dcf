"""From a Job's end to status, event and metric: harvest, channel, and three consumers.

The order of writes is what makes each result count once, whatever dies in between:

0. A Job of ours with neither finalizer nor `recorded` annotation gets the finalizer, guarded by its version.
1. The resource is read from the server, and its version kept.
2. The Job is read from the server; without our finalizer on it, it has been recorded, and nothing is done.
3. The status is written, guarded by that version: outcome, totals, and the Job in `recorded`; if it is there
   already, nothing is written.
4. The event is created under a name that is a hash of Job and reason; if it exists already, well.
5. One write, guarded by the Job's version, takes the finalizer off and puts the annotation on.
6. A later status write takes the Job out of `recorded`, once the server says its finalizer is gone.
"""

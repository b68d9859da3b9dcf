"""From a Job's end to status, event and metric: harvest, channel, and three consumers.

The order of writes is what makes each result count once, whatever dies in between:

0. A Job of ours with neither finalizer nor `recorded` annotation gets the finalizer, guarded by its version.
1. What an ended Job came to is concluded and written on the Job, guarded by its version. From here on it does not
   change, though pods go away: whoever goes on tells the same.
2. The owner is read from the server, and its version kept.
3. The Job is read from the server; without our finalizer on it, it has been recorded, and nothing is done.
4. The owner's status is written, guarded by that version: outcome, totals, and the Job in `recorded`; if it is there
   already, nothing is written.
5. The event is created under a name that is a hash of Job and reason; if it exists already, well.
6. One write, guarded by the Job's version, takes the finalizer off and puts the annotation on.
7. A later status write takes the Job out of `recorded`, once the Job says by itself that it is not to be counted: it
   has no finalizer any more, or, where a consumer lags and `recorded` has no more room, the annotation `counted`.
"""

"""Amazon SQS, or what speaks like it. `address` and `limits` need no driver; `client` imports aiobotocore.

The jobs are rows of the store, and SQS only tells workers where to look: `relay` puts messages into it, one for each
lane (sink, conversation) of the jobs that it has read together; `queue` hands them to a worker. What SQS loses, doubles
or mixes up costs time alone.
"""

"""Amazon SQS, or what speaks like it. `address` and `limits` need no driver; `client` imports aiobotocore.

The jobs are rows of the store, and SQS only tells workers where to look: `relay` puts one message into it for each job,
`queue` hands the messages to a worker. What SQS loses, doubles or mixes up costs time alone.
"""

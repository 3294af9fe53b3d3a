"""The decisions of the engine: who may register, who may read whom, when secrets change.

What the operator and the standalone engine call, in the order of a reconcile::

    registry = Registry(client[db_name], get_driver("pymongo"), EnvelopeEncryptionService(keyring))
    await registry.prepare()                              # once: the engine's own collections
    record = await registry.claim(spec, owner, generation=3)   # SlugTaken, CollectionTaken
    made = await registry.ensure_collections(record)      # and validators; conflicts are data
    sealed = await registry.secrets.ensure(made.record)   # a secret, generated once
    outcome = await registry.publish(record.slug)         # grants of it and of who names it
    revealed = await registry.secrets.reveal(record.slug) # what the Secret is projected from
    built = await registry.ensure_indexes(made.record)    # takes its time; conflicts are data

Every call is idempotent, writes nothing where nothing changed, and may be repeated after a crash at
any point. ``register`` does all of it for an app without Kubernetes. Nothing here knows of HTTP or
Kubernetes.
"""

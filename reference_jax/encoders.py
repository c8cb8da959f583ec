"""Observation encoders, by the name that a configuration gives them."""

from reference_jax.networks import MLP

encoder_modules = {
    'mlp': lambda: MLP((512, 512, 512, 512), layer_norm=True),
}


def make_encoders(name, networks):
    """A new encoder for each of the networks, {} if the configuration names none.

    Raises ValueError for a name that is not registered.
    """
    if name is None:
        return {}
    if name not in encoder_modules:
        raise ValueError(
            f'encoder={name!r} is not registered; choose None or one of {sorted(encoder_modules)}'
        )
    return {network: encoder_modules[name]() for network in networks}


def encoder_features(encoder):
    """The number of features that an encoder puts out."""
    return getattr(encoder, 'mlp_hidden_dims', getattr(encoder, 'hidden_dims', None))[-1]

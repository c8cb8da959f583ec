"""What each port ports: the registration table of the shipped pairs."""

import contextlib
import dataclasses
import functools
import importlib
from unittest import mock

from parity.pair import Pair

DRAWS = 'torch_agents.random'

TRANSITIONS = {
    'observations': 'B O',
    'next_observations': 'B O',
    'actions': 'B A | unit',
    'next_actions': 'B A | unit',
    'rewards': 'B',
    'masks': 'B | binary',
    'terminals': 'B | not masks',
}
RANGE = {'observation_min': 'O | min observations', 'observation_max': 'O | max observations'}
GOALS = {
    'value_goals': 'B O',
    'actor_goals': 'B O',
    'relabeled_rewards': 'B',
    'relabeled_masks': 'B | binary',
}
LATENTS = {'latents': 'B L'}
# its rows need not be as many
MODEL = {
    f'model_{key}': text.replace('B', 'M').replace('masks', 'model_masks')
    for key, text in TRANSITIONS.items()
}

ENCODERS = {'encoder': ('reference_jax.encoders:encoder_modules', 'torch_agents.encoders:encoder_modules')}
CONTRACTIONS = ('einsum', 'tensordot', 'matmul')
HIDDEN = ((12, 10), (7,))
# Encoders of the same kinds as those registered under these names, small enough to check in seconds. Each
# makes 16 features, F.
SMALL_ENCODERS = {
    'mlp': ('MLP', {'hidden_dims': (12, 16), 'layer_norm': True}),
    'impala': ('ImpalaEncoder', {'stack_sizes': (4,), 'mlp_hidden_dims': (16,)}),
    'impala_debug': ('ImpalaEncoder', {'num_blocks': 1, 'stack_sizes': (4, 3), 'mlp_hidden_dims': (16,)}),
    'impala_small': (
        'ImpalaEncoder',
        {'num_blocks': 1, 'stack_sizes': (4,), 'mlp_hidden_dims': (16,), 'layer_norm': True},
    ),
    'impala_large': (
        'ImpalaEncoder',
        {'num_blocks': 1, 'stack_sizes': (2, 3), 'width': 2, 'mlp_hidden_dims': (10, 16)},
    ),
    'resnet_34': ('ResNetEncoder', {'stage_sizes': (1, 2), 'num_filters': 8}),
}
# the first is the default of an image pair
IMAGE_ENCODERS = ('impala_debug', 'resnet_34', 'impala_small', 'impala', 'impala_large')


@contextlib.contextmanager
def small_encoders(side):
    """Register SMALL_ENCODERS in the package of 'reference' or 'port' for a while."""
    package = {'reference': 'reference_jax', 'port': 'torch_agents'}[side]
    encoders = importlib.import_module(f'{package}.encoders')
    small = {
        name: functools.partial(getattr(encoders, cls), **kwargs)
        for name, (cls, kwargs) in SMALL_ENCODERS.items()
    }
    with mock.patch.dict(encoders.encoder_modules, small):
        yield


# the sizes and switches that several agents have in common
# no two networks alike: a port that takes one's sizes for another's would not be noticed
SMALL = {'actor_hidden_dims': (10, 12), 'value_hidden_dims': (12, 10)}
SMALL_REWARD = {'reward_hidden_dims': (11, 9)}
BATCH_SIZE = {'batch_size': 'B'}
LATENT_SIZES = {'batch_size': 'B', 'latent_dim': 'L'}
LAYER_SWITCHES = {
    'actor_layer_norm': (False, True),
    'value_layer_norm': (True, False),
    'value_hidden_dims': HIDDEN,
}


def shipped(name, agent, **fields):
    """The pair of the agents of that name in both packages."""
    reference, port = (f'{package}.{name}:{agent}' for package in ('reference_jax', 'torch_agents'))
    return Pair(name=name, reference=reference, port=port, draws=DRAWS, presets=ENCODERS, **fields)


IQL = shipped(
    'iql',
    'IQLAgent',
    batch=TRANSITIONS,
    forward={
        'value': 'observations',
        'critic': 'observations actions',
        'target_critic': 'observations actions',
        'actor': 'observations',
    },
    ensembles=('critic', 'target_critic'),
    sizes=SMALL,
    sizes_from=BATCH_SIZE,
    switches={
        'actor_loss': ('awr', 'ddpgbc'),
        'const_std': (True, False),
        'expectile': (0.9, 0.5),
        **LAYER_SWITCHES,
    },
)

INFOM = shipped(
    'infom',
    'InFOMAgent',
    batch={**TRANSITIONS, **RANGE},
    forward={
        'critic': 'observations actions',
        'critic_vf': 'next_observations times observations actions latents',
        'target_critic_vf': 'next_observations times observations actions latents',
        'intention_encoder': 'observations actions',
        'actor': 'observations',
        'reward': 'observations',
    },
    extra={'times': 'B | binary', 'latents': 'B L'},
    ensembles=('critic',),
    sizes={
        **SMALL,
        **SMALL_REWARD,
        'intention_encoder_hidden_dims': (9, 8),
        'num_flow_goals': 3,
        'num_flow_steps': 4,
    },
    sizes_from=LATENT_SIZES,
    switches={
        'q_agg': ('min', 'mean'),
        'critic_latent_type': ('prior', 'encoding'),
        'clip_flow_goals': (True, False),
        'const_std': (True, False),
        'normalize_q_loss': (False, True),
        'value_layer_norm': (False, True),
        'intention_encoder_layer_norm': (True, False),
        'intention_encoder_hidden_dims': ((9, 8), (7,)),
    },
)

INFONCE_SWITCHES = {
    'normalize_q_loss': (True, False),
    'const_std': (True, False),
    'reward_layer_norm': (True, False),
    **LAYER_SWITCHES,
}

CRL_INFONCE = shipped(
    'crl_infonce',
    'CRLInfoNCEAgent',
    contractions=CONTRACTIONS,
    counts=('binary_accuracy', 'categorical_accuracy'),
    batch={**TRANSITIONS, **GOALS},
    forward={
        'critic': 'observations value_goals actions',
        'actor': 'observations',
        'reward': 'observations',
    },
    ensembles=('critic',),
    sizes={**SMALL, **SMALL_REWARD},
    sizes_from=LATENT_SIZES,
    switches={'contrastive_loss': ('forward_infonce', 'symmetric_infonce'), **INFONCE_SWITCHES},
)

TD_INFONCE = shipped(
    'td_infonce',
    'TDInfoNCEAgent',
    contractions=CONTRACTIONS,
    counts=CRL_INFONCE.counts,
    batch=CRL_INFONCE.batch,
    forward={**CRL_INFONCE.forward, 'target_critic': 'observations value_goals actions'},
    ensembles=('critic', 'target_critic'),
    sizes=CRL_INFONCE.sizes,
    sizes_from=LATENT_SIZES,
    switches={'logit_agg': ('mean', 'min'), **INFONCE_SWITCHES},
)

HILP = shipped(
    'hilp',
    'HILPAgent',
    batch={**TRANSITIONS, **GOALS, **LATENTS},
    forward={
        'value': 'observations value_goals',
        'target_value': 'observations value_goals',
        'skill_critic': 'observations latents actions True',
        'target_skill_critic': 'observations latents actions True',
        'skill_value': 'observations latents None True',
        'skill_actor': 'observations latents True',
        'get_phis()': 'observations',
        'infer_latent()': 'batch',
    },
    plain=('infer_latent()',),  # least squares
    ensembles=('value', 'target_value', 'skill_critic', 'target_skill_critic'),
    sizes=SMALL,
    sizes_from=LATENT_SIZES,
    switches={'const_std': (True, False), 'expectile': (0.9, 0.5), **LAYER_SWITCHES},
)

FB_REPR = shipped(
    'fb_repr',
    'FBReprAgent',
    contractions=CONTRACTIONS,
    smallest={'B': 2, 'L': 2},  # its losses divide by B - 1; infer_latent needs vectors
    batch={**TRANSITIONS, **LATENTS},
    forward={
        'value': 'observations latents None True',
        'critic': 'observations latents actions True',
        'forward_repr': 'observations latents actions True',
        'backward_repr': 'observations',
        'target_critic': 'observations latents actions True',
        'target_forward_repr': 'observations latents actions True',
        'target_backward_repr': 'observations',
        'actor': 'observations latents True',
        'infer_latent()': 'batch',
    },
    ensembles=('critic', 'forward_repr', 'target_critic', 'target_forward_repr'),
    sizes={**SMALL, 'forward_repr_hidden_dims': (8, 12), 'backward_repr_hidden_dims': (10, 9)},
    sizes_from=LATENT_SIZES,
    switches={
        'repr_agg': ('mean', 'min'),
        'normalize_q_loss': (False, True),
        'const_std': (True, False),
        'actor_layer_norm': (False, True),
        'value_layer_norm': (True, False),
        'fb_repr_layer_norm': (True, False),
        'forward_repr_hidden_dims': ((8, 12), (7,)),
        'orthonorm_coeff': (1.0, 0.3),  # by default a factor that nobody misses
    },
)

ACTOR_CRITIC = {
    'critic': 'observations actions',
    'target_critic': 'observations actions',
    'actor': 'observations',
    'target_actor': 'observations',
}
REBRAC_SWITCHES = {
    'tanh_squash': (True, False),
    'actor_fc_scale': (0.01, 1.0),
    'alpha_actor': (0.0, 0.1),
    'alpha_critic': (0.0, 0.1),
    **LAYER_SWITCHES,
}

REBRAC = shipped(
    'rebrac',
    'ReBRACAgent',
    batch=TRANSITIONS,
    forward=ACTOR_CRITIC,
    ensembles=('critic', 'target_critic'),
    sizes=SMALL,
    sizes_from=BATCH_SIZE,
    switches={**REBRAC_SWITCHES, 'normalize_q_loss': (True, False)},
)

DINO_REBRAC = shipped(
    'dino_rebrac',
    'DINOReBRACAgent',
    creating=small_encoders,
    batch=TRANSITIONS,
    forward={
        'encoder': 'observations',
        'target_encoder': 'observations',
        'target_repr_center': '',
        **{network: inputs.replace('observations', 'features') for network, inputs in ACTOR_CRITIC.items()},
    },
    extra={'features': 'B F'},
    ensembles=REBRAC.ensembles,
    sizes={**SMALL, 'encoder': 'mlp'},
    sizes_from=BATCH_SIZE,
    # the first full update gives the centre (F,) the batch's axis, (B, F)
    reshaped=('modules_target_repr_center/value',),
    switches=REBRAC.switches,
)

MBPO_REBRAC = shipped(
    'mbpo_rebrac',
    'MBPOReBRACAgent',
    batch={**TRANSITIONS, **MODEL},
    forward={
        'transition': 'observations actions',
        'reward': 'observations',
        **ACTOR_CRITIC,
        'predict_rewards()': 'observations',
        'predict_next_observations()': 'observations actions',
    },
    ensembles=REBRAC.ensembles,
    sizes={**SMALL, **SMALL_REWARD, 'transition_hidden_dims': (9, 11)},
    sizes_from=BATCH_SIZE,
    switches={**REBRAC_SWITCHES, 'transition_layer_norm': (True, False), 'reward_layer_norm': (True, False)},
)


def of_images(batch):
    """A batch with images (..., H, W, C) in the place of its vectors (..., O), and their range as numbers."""
    described = {'B O': 'B H W C | image', 'M O': 'M H W C | image'}
    return {key: described.get(text, text.removeprefix('O')) for key, text in batch.items()}


def images(pair, **changes):
    """The pair on images instead of vectors, with small encoders of every kind as one more switch.

    changes: further fields that differ, such as the inputs of networks that see features.
    """
    changed = {
        'name': f'{pair.name}_images',
        'batch': of_images(pair.batch),
        'sizes': {**pair.sizes, 'encoder': IMAGE_ENCODERS[0]},
        'switches': {**pair.switches, 'encoder': IMAGE_ENCODERS},
        'creating': small_encoders,
    }
    return dataclasses.replace(pair, **{**changed, **changes})


def encoded(pair, **changes):
    """The pair with an encoder of vectors, and numbers as their features' range. changes: as for images."""
    changed = {
        'batch': {
            **pair.batch,
            **{key: text.removeprefix('O') for key, text in pair.batch.items() if key in RANGE},
        },
        'name': f'{pair.name}_encoded',
        'sizes': {**pair.sizes, 'encoder': 'mlp'},
        'creating': small_encoders,
    }
    return dataclasses.replace(pair, **{**changed, **changes})


# Not registered, because convolutions take long to compile: name them, `torch_agents.pairs:IQL_IMAGES`.
IQL_IMAGES = images(IQL)
CRL_INFONCE_IMAGES = images(CRL_INFONCE)
TD_INFONCE_IMAGES = images(TD_INFONCE)
HILP_IMAGES = images(HILP)
FB_REPR_IMAGES = images(FB_REPR)
REBRAC_IMAGES = images(REBRAC)
FLOW_OF_FEATURES = 'next_features times features actions latents'
INFOM_OF_FEATURES = {
    'forward': {
        'critic': 'observations actions',
        'critic_vf': FLOW_OF_FEATURES,
        'target_critic_vf': FLOW_OF_FEATURES,
        'critic_vf_encoder': 'observations',
        'target_critic_vf_encoder': 'observations',
        'intention_encoder': 'observations actions',
        'actor': 'observations',
        'reward': 'features',
    },
    'extra': {**INFOM.extra, 'features': 'B F', 'next_features': 'B F'},
}
INFOM_IMAGES = images(INFOM, **INFOM_OF_FEATURES)
DINO_REBRAC_IMAGES = images(
    DINO_REBRAC,
    batch=of_images({**TRANSITIONS, 'aug1_observations': 'B O', 'aug2_observations': 'B O'}),
)
# Its transition network predicts C values for each transition, and the original subtracts images (B, H, W, C)
# from these (B, C): that is defined only where W is B (or 1), so W is B here.
MBPO_REBRAC_IMAGES = images(
    MBPO_REBRAC,
    batch={key: text.replace('H W C', 'H B C') for key, text in of_images(MBPO_REBRAC.batch).items()},
)

# What of the agents only an encoder reaches, without convolutions.
HILP_ENCODED = encoded(HILP)
FB_REPR_ENCODED = encoded(FB_REPR)
CRL_INFONCE_ENCODED = encoded(CRL_INFONCE)
TD_INFONCE_ENCODED = encoded(TD_INFONCE)
INFOM_ENCODED = encoded(INFOM, **INFOM_OF_FEATURES)

"""What each port ports: the registration table of the shipped pairs."""

import contextlib
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

CONTRACTIONS = ('einsum', 'tensordot', 'matmul')
HIDDEN = ((12, 10), (7,))
# Encoders of the same kinds as those registered under these names, small enough to check in seconds.
SMALL_ENCODERS = {
    'mlp': ('MLP', {'hidden_dims': (12, 10), 'layer_norm': True}),
    'impala_debug': ('ImpalaEncoder', {'num_blocks': 1, 'stack_sizes': (4, 4), 'mlp_hidden_dims': (10,)}),
    'impala_small': ('ImpalaEncoder', {'stack_sizes': (4,), 'mlp_hidden_dims': (12,), 'layer_norm': True}),
    'resnet_34': ('ResNetEncoder', {'stage_sizes': (1, 1), 'num_filters': 4}),
}


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


IQL = Pair(
    name='iql',
    reference='reference_jax.iql:IQLAgent',
    port='torch_agents.iql:IQLAgent',
    draws=DRAWS,
    batch=TRANSITIONS,
    forward={
        'value': 'observations',
        'critic': 'observations actions',
        'target_critic': 'observations actions',
        'actor': 'observations',
    },
    ensembles=('critic', 'target_critic'),
    sizes={'actor_hidden_dims': (12, 10), 'value_hidden_dims': (12, 10)},
    sizes_from={'batch_size': 'B'},
    switches={
        'actor_loss': ('awr', 'ddpgbc'),
        'const_std': (True, False),
        'actor_layer_norm': (False, True),
        'value_layer_norm': (True, False),
        'expectile': (0.9, 0.5),
        'value_hidden_dims': HIDDEN,
    },
)

INFOM = Pair(
    name='infom',
    reference='reference_jax.infom:InFOMAgent',
    port='torch_agents.infom:InFOMAgent',
    draws=DRAWS,
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
        'intention_encoder_hidden_dims': (12, 10),
        'actor_hidden_dims': (12, 10),
        'value_hidden_dims': (12, 10),
        'reward_hidden_dims': (12, 10),
        'num_flow_goals': 3,
        'num_flow_steps': 4,
    },
    sizes_from={'batch_size': 'B', 'latent_dim': 'L'},
    switches={
        'q_agg': ('min', 'mean'),
        'critic_latent_type': ('prior', 'encoding'),
        'clip_flow_goals': (True, False),
        'const_std': (True, False),
        'normalize_q_loss': (False, True),
        'value_layer_norm': (False, True),
        'intention_encoder_layer_norm': (True, False),
        'intention_encoder_hidden_dims': HIDDEN,
    },
)

CRL_INFONCE = Pair(
    name='crl_infonce',
    contractions=CONTRACTIONS,
    counts=('binary_accuracy', 'categorical_accuracy'),
    reference='reference_jax.crl_infonce:CRLInfoNCEAgent',
    port='torch_agents.crl_infonce:CRLInfoNCEAgent',
    draws=DRAWS,
    batch={**TRANSITIONS, **GOALS},
    forward={
        'critic': 'observations value_goals actions',
        'actor': 'observations',
        'reward': 'observations',
    },
    ensembles=('critic',),
    sizes={'actor_hidden_dims': (12, 10), 'value_hidden_dims': (12, 10), 'reward_hidden_dims': (12, 10)},
    sizes_from={'batch_size': 'B', 'latent_dim': 'L'},
    switches={
        'contrastive_loss': ('forward_infonce', 'symmetric_infonce'),
        'normalize_q_loss': (True, False),
        'const_std': (True, False),
        'actor_layer_norm': (False, True),
        'value_layer_norm': (True, False),
        'reward_layer_norm': (True, False),
        'value_hidden_dims': HIDDEN,
    },
)

TD_INFONCE = Pair(
    name='td_infonce',
    contractions=CONTRACTIONS,
    counts=('binary_accuracy', 'categorical_accuracy'),
    reference='reference_jax.td_infonce:TDInfoNCEAgent',
    port='torch_agents.td_infonce:TDInfoNCEAgent',
    draws=DRAWS,
    batch={**TRANSITIONS, **GOALS},
    forward={
        'critic': 'observations value_goals actions',
        'target_critic': 'observations value_goals actions',
        'actor': 'observations',
        'reward': 'observations',
    },
    ensembles=('critic', 'target_critic'),
    sizes={'actor_hidden_dims': (12, 10), 'value_hidden_dims': (12, 10), 'reward_hidden_dims': (12, 10)},
    sizes_from={'batch_size': 'B', 'latent_dim': 'L'},
    switches={
        'logit_agg': ('mean', 'min'),
        'normalize_q_loss': (True, False),
        'const_std': (True, False),
        'actor_layer_norm': (False, True),
        'value_layer_norm': (True, False),
        'reward_layer_norm': (True, False),
        'value_hidden_dims': HIDDEN,
    },
)

HILP = Pair(
    name='hilp',
    reference='reference_jax.hilp:HILPAgent',
    port='torch_agents.hilp:HILPAgent',
    draws=DRAWS,
    batch={**TRANSITIONS, **GOALS, **LATENTS},
    forward={
        'value': 'observations value_goals',
        'target_value': 'observations value_goals',
        'skill_critic': 'observations latents actions True',
        'target_skill_critic': 'observations latents actions True',
        'skill_value': 'observations latents None True',
        'skill_actor': 'observations latents True',
    },
    ensembles=('value', 'target_value', 'skill_critic', 'target_skill_critic'),
    sizes={'actor_hidden_dims': (12, 10), 'value_hidden_dims': (12, 10)},
    sizes_from={'batch_size': 'B', 'latent_dim': 'L'},
    switches={
        'const_std': (True, False),
        'actor_layer_norm': (False, True),
        'value_layer_norm': (True, False),
        'expectile': (0.9, 0.5),
        'value_hidden_dims': HIDDEN,
    },
)

FB_REPR = Pair(
    name='fb_repr',
    contractions=CONTRACTIONS,
    smallest={'B': 2},  # its losses divide by B - 1
    reference='reference_jax.fb_repr:FBReprAgent',
    port='torch_agents.fb_repr:FBReprAgent',
    draws=DRAWS,
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
    },
    ensembles=('critic', 'forward_repr', 'target_critic', 'target_forward_repr'),
    sizes={
        'actor_hidden_dims': (12, 10),
        'value_hidden_dims': (12, 10),
        'forward_repr_hidden_dims': (12, 10),
        'backward_repr_hidden_dims': (12, 10),
    },
    sizes_from={'batch_size': 'B', 'latent_dim': 'L'},
    switches={
        'repr_agg': ('mean', 'min'),
        'normalize_q_loss': (False, True),
        'const_std': (True, False),
        'actor_layer_norm': (False, True),
        'value_layer_norm': (True, False),
        'fb_repr_layer_norm': (True, False),
        'forward_repr_hidden_dims': HIDDEN,
    },
)

REBRAC_SWITCHES = {
    'tanh_squash': (True, False),
    'actor_fc_scale': (0.01, 1.0),
    'alpha_actor': (0.0, 0.1),
    'alpha_critic': (0.0, 0.1),
    'actor_layer_norm': (False, True),
    'value_layer_norm': (True, False),
    'value_hidden_dims': HIDDEN,
}

REBRAC = Pair(
    name='rebrac',
    reference='reference_jax.rebrac:ReBRACAgent',
    port='torch_agents.rebrac:ReBRACAgent',
    draws=DRAWS,
    batch=TRANSITIONS,
    forward={
        'critic': 'observations actions',
        'target_critic': 'observations actions',
        'actor': 'observations',
        'target_actor': 'observations',
    },
    ensembles=('critic', 'target_critic'),
    sizes={'actor_hidden_dims': (12, 10), 'value_hidden_dims': (12, 10)},
    sizes_from={'batch_size': 'B'},
    switches={**REBRAC_SWITCHES, 'normalize_q_loss': (True, False)},
)

DINO_REBRAC = Pair(
    name='dino_rebrac',
    reference='reference_jax.dino_rebrac:DINOReBRACAgent',
    port='torch_agents.dino_rebrac:DINOReBRACAgent',
    draws=DRAWS,
    creating=small_encoders,
    batch=TRANSITIONS,
    forward={
        'encoder': 'observations',
        'target_encoder': 'observations',
        'target_repr_center': '',
        'critic': 'features actions',
        'target_critic': 'features actions',
        'actor': 'features',
        'target_actor': 'features',
    },
    extra={'features': 'B F'},
    ensembles=('critic', 'target_critic'),
    sizes={'encoder': 'mlp', 'actor_hidden_dims': (12, 10), 'value_hidden_dims': (12, 10)},
    sizes_from={'batch_size': 'B'},
    # the first full update gives the centre (F,) the batch's axis, (B, F)
    reshaped=('modules_target_repr_center/value',),
    switches={**REBRAC_SWITCHES, 'normalize_q_loss': (True, False)},
)

MBPO_REBRAC = Pair(
    name='mbpo_rebrac',
    reference='reference_jax.mbpo_rebrac:MBPOReBRACAgent',
    port='torch_agents.mbpo_rebrac:MBPOReBRACAgent',
    draws=DRAWS,
    batch={**TRANSITIONS, **MODEL},
    forward={
        'transition': 'observations actions',
        'reward': 'observations',
        'critic': 'observations actions',
        'target_critic': 'observations actions',
        'actor': 'observations',
        'target_actor': 'observations',
    },
    ensembles=('critic', 'target_critic'),
    sizes={
        'transition_hidden_dims': (12, 10),
        'reward_hidden_dims': (12, 10),
        'actor_hidden_dims': (12, 10),
        'value_hidden_dims': (12, 10),
    },
    sizes_from={'batch_size': 'B'},
    switches={**REBRAC_SWITCHES, 'transition_layer_norm': (True, False), 'reward_layer_norm': (True, False)},
)

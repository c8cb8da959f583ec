"""What each port ports: the registration table of the shipped pairs."""

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
        'value_hidden_dims': ((12, 10), (7,)),
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
        'intention_encoder_hidden_dims': ((12, 10), (7,)),
    },
)

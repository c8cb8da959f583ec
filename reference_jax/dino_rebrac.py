"""Self-distillation without labels (DINO) with ReBRAC."""

import copy
import functools

import jax
import jax.numpy as jnp
from jax import random
from jax.nn import log_softmax, softmax

from reference_jax.agent import complete_config, prefixed
from reference_jax.encoders import make_encoders
from reference_jax.networks import Param
from reference_jax.rebrac import ReBRACAgent, actor_and_critic
from reference_jax.train_state import TrainState


class DINOReBRACAgent(ReBRACAgent):
    """Pre-trained by self-distillation of an encoder and by cloning, fine-tuned by ReBRAC on its features."""

    # The original averages the centre over the two views only, so that it gets the batch's axis, (B, F). A
    # subclass with True averages over the batch as well: one centre per feature, (F,).
    center_per_feature = False

    def encode(self, observations, encoder='encoder'):
        """The features of observations (B, ...) that critic and actor see: (B, F), frozen."""
        return self.network.select(encoder)(observations)

    def repr_loss(self, batch, grad_params, rng):
        """The student's cross-entropy to the teacher on each of two views."""
        center = self.network.select('target_repr_center')()

        losses = []
        for view in self.views(batch, rng):
            targets = self.network.select('target_encoder')(view) - center
            targets = softmax(targets / self.config['target_repr_temp'], -1)
            logits = self.network.select('encoder')(view, params=grad_params) / self.config['repr_temp']
            losses.append(-(targets * log_softmax(logits, -1)).sum(axis=-1).mean())
        repr_loss = (losses[0] + losses[1]) / 2

        return repr_loss, {'repr_loss': repr_loss}

    def views(self, batch, rng):
        """Two views of the observations: with noise, of images the batch's own augmentations."""
        rng, view1_rng, view2_rng = random.split(rng, 3)
        if self.config['encoder'] != 'mlp':
            return batch['aug1_observations'], batch['aug2_observations']
        return tuple(self.noisy_view(batch['observations'], view_rng) for view_rng in (view1_rng, view2_rng))

    def noisy_view(self, observations, rng):
        """Observations (B, O) plus clipped noise."""
        noise = random.normal(rng, observations.shape, observations.dtype) * self.config['repr_noise']
        clip_at = self.config['repr_noise_clip']
        return observations + jnp.clip(noise, -clip_at, clip_at)

    def new_center(self, batch, rng):
        """The centre, moved towards the mean of the target encoder's features of two new views."""
        features = jnp.stack([self.network.select('target_encoder')(view) for view in self.views(batch, rng)])
        mean = features.mean(axis=(0, 1) if self.center_per_feature else 0)
        center = self.network.select('target_repr_center')()
        tau = self.config['target_repr_center_tau']
        return mean * tau + center * (1 - tau)

    def pretraining_loss(self, batch, grad_params, rng=None):
        """Self-distillation and behavioural cloning. grad_params None reads every network frozen."""
        rng = self.rng if rng is None else rng
        info = {}

        repr_loss, repr_info = self.repr_loss(batch, grad_params, rng)
        info.update(prefixed('repr', repr_info))

        bc_loss, bc_info = self.bc_loss(batch, grad_params)
        info.update(prefixed('bc', bc_info))

        loss = repr_loss + bc_loss
        return loss, info

    @jax.jit
    def pretrain(self, batch):
        """One pre-training update: (agent, info)."""
        return self.update(
            lambda grad_params, rng: self.pretraining_loss(batch, grad_params, rng=rng),
            targets={'target_encoder': 'encoder'},
        )

    @functools.partial(jax.jit, static_argnames='full_update')
    def finetune(self, batch, full_update=True):
        """One fine-tuning update: (agent, info). The targets and the centre move with full_update only."""
        targets = {
            'target_encoder': 'encoder',
            'target_critic': 'critic',
            'target_actor': 'actor',
        }
        if full_update:
            # the centre follows the target encoder from before this step, at views of keys of their own
            _, rng = random.split(self.rng)
            new_rng, rng = random.split(rng)
            center = self.new_center(batch, rng)

        agent, info = self.update(
            lambda grad_params, rng: self.finetuning_loss(
                batch, grad_params, full_update=full_update, rng=rng
            ),
            targets=targets if full_update else None,
        )
        if full_update:
            network = agent.network.set_param('target_repr_center', center)
            agent = agent.replace(network=network, rng=new_rng)
        return agent, info

    def target_reset(self):
        """The target encoder set equal to the encoder."""
        return self.replace(network=self.network.copy_params('encoder', 'target_encoder'))

    @classmethod
    def create(cls, seed, ex_observations, ex_actions, config):
        """A new agent for observations and actions like the examples ((B, ...) and (B, A))."""
        config = complete_config(config, get_config(), needs_encoder=True)
        rng = random.PRNGKey(seed)
        rng, encoder_rng, init_rng = random.split(rng, 3)

        encoders = make_encoders(
            config['encoder'], ['encoder', 'target_encoder'], ex_observations, ex_actions
        )
        ex_features, _ = jax.eval_shape(encoders['encoder'].init_with_output, encoder_rng, ex_observations)
        ex_features = jnp.zeros(ex_features.shape)
        # both see features, and need no encoders of their own
        actor_def, critic_def = actor_and_critic(config, ex_actions, encoders={})
        networks = {
            'critic': (critic_def, (ex_features, ex_actions)),
            'target_critic': (copy.deepcopy(critic_def), (ex_features, ex_actions)),
            'actor': (actor_def, (ex_features,)),
            'target_actor': (copy.deepcopy(actor_def), (ex_features,)),
            'encoder': (encoders['encoder'], (ex_observations,)),
            'target_encoder': (encoders['target_encoder'], (ex_observations,)),
            'target_repr_center': (Param(ex_features.shape[-1:]), ()),
        }
        network = TrainState.create(networks, init_rng, config['lr'])
        network = network.copy_params('critic', 'target_critic')
        network = network.copy_params('actor', 'target_actor')
        network = network.copy_params('encoder', 'target_encoder')

        return cls(rng, network, config)


def get_config():
    """The default configuration; plain values. An encoder must be named: mlp, or one of images."""
    return {
        'agent_name': 'dino_rebrac',
        'lr': 3e-4,
        'batch_size': 256,
        'actor_hidden_dims': (512, 512, 512, 512),
        'value_hidden_dims': (512, 512, 512, 512),
        'actor_layer_norm': False,
        'value_layer_norm': True,
        'discount': 0.99,
        'tau': 0.005,
        'tanh_squash': True,
        'actor_fc_scale': 0.01,
        'alpha_actor': 0.0,
        'alpha_critic': 0.0,
        'actor_freq': 4,
        'normalize_q_loss': True,
        'actor_noise': 0.2,
        'actor_noise_clip': 0.5,
        'repr_noise': 0.5,
        'repr_noise_clip': 1.0,
        'target_repr_center_tau': 0.1,
        'repr_temp': 0.1,
        'target_repr_temp': 0.04,
        'encoder': None,
    }

"""Bugs to plant: one change each, of the kinds that ports have. `parity locate` and the mutants are tried on them."""

from dataclasses import dataclass, field
from typing import Any, Literal

from parity_tests.engine.planting import Substitution

Kind = Literal['forward', 'backward', 'update', 'draw']


@dataclass(frozen=True)
class Bug:
    """In `file` of the port, `old` becomes `new`.

    name:   what was done.
    agent:  the pair that shows it, and `loss`, the call that does.
    kind:   what first differs: a value, a gradient, an update, or a random draw.
    lines:  texts of further lines that are as right an answer as the changed ones.
    config: of the case.
    """

    name: str
    agent: str
    loss: str
    kind: Kind
    file: str
    old: str
    new: str
    times: int = 1
    lines: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def substitution(self) -> Substitution:
        """The change."""
        return Substitution(self.file, self.old, self.new, self.times)


PRE, FULL, PARTIAL = 'pretraining', 'finetuning_full', 'finetuning_partial'
Q = 'implicit_q.py'
VALUE = "v = self.network.select(f'{prefix}value')(batch['observations'], **goals, params=grad_params)"

BUGS = (
    # layers and networks, shared by all agents
    Bug('LayerNorm epsilon of torch', 'iql', FULL, 'forward', 'layers.py', 'num_ensembles=1, eps=1e-6)', 'num_ensembles=1, eps=1e-5)', lines=('return (x - mean) * (torch.rsqrt(var + self.eps) * scale) + bias',)),
    Bug('exact gelu', 'iql', PRE, 'forward', 'layers.py', "F.gelu(x, approximate='tanh')", 'F.gelu(x)'),
    Bug('unbiased variance', 'infom', FULL, 'forward', 'layers.py', '        var = (x**2).mean(axis=-1, keepdim=True) - mean**2\n', '        var = x.var(axis=-1, keepdim=True)\n'),
    Bug('activation on the last layer', 'iql', PARTIAL, 'forward', 'networks.py', '            if i + 1 < len(self.hidden_dims) or self.activate_final:\n                x = gelu(x)', '            if True:\n                x = gelu(x)\n            if i + 1 < len(self.hidden_dims) or self.activate_final:', lines=('x = gelu(x)',)),
    Bug('norm before activation', 'iql', PARTIAL, 'forward', 'networks.py', '                x = gelu(x)\n                if self.layer_norm:\n                    x = getattr(self, f\'LayerNorm_{i}\')(x)\n', '                if self.layer_norm:\n                    x = getattr(self, f\'LayerNorm_{i}\')(x)\n                x = gelu(x)\n'),
    Bug('no LayerNorm on the first layer', 'iql', PARTIAL, 'forward', 'networks.py', "x = getattr(self, f'LayerNorm_{i}')(x)\n", "x = getattr(self, f'LayerNorm_{i}')(x) if i else 0 * getattr(self, f'LayerNorm_{i}')(x) + x\n"),
    Bug('inputs joined in another order', 'iql', PARTIAL, 'forward', 'networks.py', 'self.value_net(concatenate_inputs(observations, actions))', 'self.value_net(concatenate_inputs(actions, observations) if actions is not None else observations)'),
    Bug('bias left out', 'iql', PRE, 'forward', 'layers.py', 'return F.linear(x, self.weight, self.bias)', 'return F.linear(x, self.weight)'),
    Bug('log_std clipped at another bound', 'infom', PRE, 'forward', 'networks.py', 'return DiagonalGaussian(means, torch.exp(log_stds))', 'return DiagonalGaussian(means, torch.exp(torch.clip(log_stds, -0.1, 0.1)))'),
    Bug('std where log_std belongs', 'infom', PRE, 'forward', 'networks.py', 'return DiagonalGaussian(means, torch.exp(log_stds))', 'return DiagonalGaussian(means, log_stds**2 + 0.5)'),
    Bug('latents not scaled to sqrt(L)', 'fb_repr', PRE, 'forward', 'networks.py', 'return latents / lengths * math.sqrt(latents.shape[-1])', 'return latents / lengths'),
    Bug('+ 1e-8 in a denominator', 'fb_repr', PRE, 'forward', 'networks.py', 'return latents / lengths *', 'return latents / (lengths + 1e-8) *'),
    Bug('squared distance without root', 'hilp', PRE, 'forward', 'networks.py', 'v = -torch.sqrt(maximum(squared_distance, 1e-12))', 'v = -maximum(squared_distance, 1e-12)'),
    Bug('sum over the wrong axis', 'hilp', PRE, 'forward', 'networks.py', 'squared_distance = ((phi_s - phi_g) ** 2).sum(axis=-1)', 'squared_distance = ((phi_s - phi_g) ** 2)[..., : phi_s.shape[-2], 0]'),
    Bug('log-probability without its constant', 'iql', PRE, 'forward', 'distributions.py', '- torch.log(self.scale_diag).sum(axis=-1) - constant', '- torch.log(self.scale_diag).sum(axis=-1)'),
    Bug('log-probability of the wrong sign', 'iql', PRE, 'forward', 'distributions.py', '-0.5 * (z**2).sum(axis=-1) - torch.log', '0.5 * (z**2).sum(axis=-1) - torch.log'),
    Bug('mean for the sum over actions', 'iql', PRE, 'forward', 'distributions.py', 'return -0.5 * (z**2).sum(axis=-1)', 'return -0.5 * (z**2).mean(axis=-1)'),
    # implicit Q-learning
    Bug('mean for the minimum of the critics', 'iql', PARTIAL, 'forward', Q, '        q = torch.minimum(q1, q2)\n        v = self', '        q = (q1 + q2) / 2\n        v = self'),
    Bug('maximum for minimum', 'iql', FULL, 'forward', Q, 'adv = torch.minimum(q1, q2) - v', 'adv = torch.maximum(q1, q2) - v'),
    Bug('expectile of the wrong side', 'iql', PARTIAL, 'forward', 'agent.py', 'torch.where(adv >= 0, expectile', 'torch.where(adv < 0, expectile'),
    Bug('advantage of the wrong sign', 'iql', FULL, 'forward', Q, 'adv = torch.minimum(q1, q2) - v', 'adv = v - torch.minimum(q1, q2)'),
    Bug('s for s\' in the target', 'iql', PARTIAL, 'forward', Q, "(batch['next_observations'], **goals)", "(batch['observations'], **goals)"),
    Bug('mask left out', 'iql', PARTIAL, 'forward', Q, "self.config['discount'] * batch['masks'] * next_v", "self.config['discount'] * next_v"),
    Bug('discount squared', 'iql', PARTIAL, 'forward', Q, "self.config['discount'] * batch['masks']", "self.config['discount'] ** 2 * batch['masks']"),
    Bug('terminals for masks', 'iql', PARTIAL, 'forward', Q, "self.config['discount'] * batch['masks']", "self.config['discount'] * batch['terminals']"),
    Bug('discount on the reward, too', 'iql', PARTIAL, 'forward', Q, "q = batch['rewards'] + self.config['discount'] * batch['masks'] * next_v", "q = self.config['discount'] * (batch['rewards'] + batch['masks'] * next_v)"),
    Bug('online critic for the target', 'iql', PARTIAL, 'forward', Q, "        q1, q2 = self.network.select(f'target_{prefix}critic')(", "        q1, q2 = self.network.select(f'{prefix}critic')("),
    Bug('target critic for the online one', 'iql', FULL, 'forward', Q, "        q1, q2 = self.network.select(f'{prefix}critic')(\n            batch['observations'], actions=batch['actions'], **goals\n        )\n        adv", "        q1, q2 = self.network.select(f'target_{prefix}critic')(\n            batch['observations'], actions=batch['actions'], **goals\n        )\n        adv"),
    Bug('sum for mean', 'iql', PARTIAL, 'forward', Q, '((q1 - q) ** 2 + (q2 - q) ** 2).mean()', '((q1 - q) ** 2 + (q2 - q) ** 2).sum()'),
    Bug('one critic only', 'iql', PARTIAL, 'forward', Q, '((q1 - q) ** 2 + (q2 - q) ** 2).mean()', '((q1 - q) ** 2 + (q1 - q) ** 2).mean()'),
    Bug('temperature dropped', 'iql', FULL, 'forward', Q, 'torch.exp(adv * alpha).clip', 'torch.exp(adv).clip'),
    Bug('clip dropped', 'iql', FULL, 'forward', Q, 'torch.exp(adv * alpha).clip(max=100.0)', 'torch.exp(adv * alpha)'),
    Bug('clip before exp', 'iql', FULL, 'forward', Q, 'torch.exp(adv * alpha).clip(max=100.0)', 'torch.exp((adv * alpha).clip(max=100.0))'),
    Bug('(B, 1) against (B,)', 'iql', FULL, 'forward', Q, 'adv = torch.minimum(q1, q2) - v', 'adv = torch.minimum(q1, q2) - v[:, None]'),
    Bug('next observations for the actor', 'iql', PRE, 'forward', 'agent.py', "        dist = self.network.select('actor')(batch['observations'], params=grad_params)\n        log_prob", "        dist = self.network.select('actor')(batch['next_observations'], params=grad_params)\n        log_prob"),
    Bug('next actions cloned', 'iql', PRE, 'forward', 'agent.py', "self.behavioral_cloning(dist, batch['actions'])\n        bc_loss = -log_prob", "self.behavioral_cloning(dist, batch['next_actions'])\n        bc_loss = -log_prob"),
    # InFOM
    Bug('Euler step of the wrong size', 'infom', PRE, 'forward', 'infom.py', "step_size = (end_times - init_times) / self.config['num_flow_steps']", "step_size = (end_times - init_times) / (self.config['num_flow_steps'] - 1)"),
    Bug('one Euler step less', 'infom', PRE, 'forward', 'infom.py', "        for i in range(self.config['num_flow_steps']):", "        for i in range(self.config['num_flow_steps'] - 1):", lines=('goals, _ = step(goals, i)',)),
    Bug('times from 1', 'infom', PRE, 'forward', 'infom.py', 'times = i * step_size + init_times', 'times = (i + 1) * step_size + init_times'),
    Bug('clip outside the loop', 'infom', FULL, 'forward', 'infom.py', "            if self.config['clip_flow_goals']:", "            if self.config['clip_flow_goals'] and i == self.config['num_flow_steps'] - 1:", lines=('goals = clip(goals, observation_min + 1e-5, observation_max - 1e-5)', 'return goals, None')),
    Bug('goals clipped at the bounds themselves', 'infom', FULL, 'forward', 'infom.py', 'goals = clip(goals, observation_min + 1e-5, observation_max - 1e-5)', 'goals = clip(goals, observation_min, observation_max)'),
    Bug('online field for the target field', 'infom', PRE, 'forward', 'infom.py', "            field='target_critic_vf',\n", "            field='critic_vf',\n", lines=('velocity = self.network.select(field)(goals, times, observations, actions, latents)',)),
    Bug('noise and data swapped', 'infom', PRE, 'forward', 'infom.py', 'path = times[..., None] * observations + (1 - times[..., None]) * noises', 'path = times[..., None] * noises + (1 - times[..., None]) * observations'),
    Bug('velocity of the wrong sign', 'infom', PRE, 'forward', 'infom.py', 'velocity = (observations - noises).detach()', 'velocity = (noises - observations).detach()'),
    Bug('KL of log sigma', 'infom', PRE, 'forward', 'infom.py', '(1 + 2 * log_stds - means**2', '(1 + log_stds - means**2'),
    Bug('mean for minimum of an ensemble', 'infom', FULL, 'forward', 'agent.py', "values.mean(axis=0) if how == 'mean' else values.amin(axis=0)", 'values.mean(axis=0)'),
    Bug('discounts swapped', 'infom', PRE, 'forward', 'infom.py', '((1 - discount) * current_loss + discount * future_loss)', '(discount * current_loss + (1 - discount) * future_loss)'),
    Bug('expected reward not scaled', 'infom', FULL, 'forward', 'infom.py', "target_q = rewards.mean(axis=0) / (1 - self.config['discount'])", 'target_q = rewards.mean(axis=0)'),
    # FB
    Bug('diagonal for off-diagonal', 'fb_repr', PRE, 'forward', 'fb_repr.py', 'off_diagonal = 1 - torch.eye(size).to(measures)', 'off_diagonal = torch.eye(size).to(measures)', lines=('residuals = (measures - self.config[\'discount\'] * target_measure) * off_diagonal',)),
    Bug('einsum of the wrong axes', 'fb_repr', PRE, 'forward', 'fb_repr.py', "measures = torch.einsum('esd,td->est', forward, backward)\n\n", "measures = torch.einsum('etd,sd->est', forward, backward)\n\n"),
    Bug('B for B - 1', 'fb_repr', PRE, 'forward', 'fb_repr.py', 'repr_off_diag_loss = 0.5 * (residuals**2).sum(axis=-1) / (size - 1)', 'repr_off_diag_loss = 0.5 * (residuals**2).sum(axis=-1) / size'),
    Bug('half left out', 'fb_repr', PRE, 'forward', 'fb_repr.py', 'repr_off_diag_loss = 0.5 * (residuals', 'repr_off_diag_loss = (residuals'),
    Bug('latents mixed the other way', 'fb_repr', PRE, 'forward', 'fb_repr.py', "torch.where(mix < self.config['latent_mix_prob'], latents, backward_latents)", "torch.where(mix < self.config['latent_mix_prob'], backward_latents, latents)"),
    Bug('covariance of F', 'fb_repr', PRE, 'forward', 'fb_repr.py', 'covariance = torch.matmul(backward, backward.T)', 'covariance = torch.matmul(forward[0], forward[0].T)'),
    Bug('permutation left out', 'fb_repr', PRE, 'forward', 'fb_repr.py', "select('backward_repr')(observations[perm])", "select('backward_repr')(observations)"),
    # InfoNCE
    Bug('softmax over the other axis', 'td_infonce', PRE, 'forward', 'td_infonce.py', "self.config['logit_agg']), -1).detach()", "self.config['logit_agg']), -2).detach()"),
    Bug('logits not scaled', 'td_infonce', PRE, 'forward', 'infonce.py', "torch.einsum('eik,ejk->ije', phi, psi) / math.sqrt(phi.shape[-1])", "torch.einsum('eik,ejk->ije', phi, psi)"),
    Bug('einsum transposed', 'td_infonce', PRE, 'forward', 'infonce.py', "torch.einsum('eik,ejk->ije', phi, psi)", "torch.einsum('eik,ejk->jie', phi, psi)"),
    Bug('log-softmax over the other axis', 'td_infonce', PRE, 'forward', 'infonce.py', 'log_softmax(logits, axis)', 'log_softmax(logits, 0)'),
    Bug('logsumexp without log B', 'td_infonce', FULL, 'forward', 'infonce.py', ' + math.log(logits.shape[0])', ''),
    Bug('random goals for next states', 'td_infonce', PRE, 'forward', 'td_infonce.py', "critic(observations, batch['next_observations'], actions)", "critic(observations, batch['value_goals'], actions)"),
    # HILP, ReBRAC
    Bug('minimum for the mean of values', 'hilp', PRE, 'forward', 'hilp.py', 'adv = q - (v1_t + v2_t) / 2', 'adv = q - torch.minimum(v1_t, v2_t)'),
    Bug('phi of the second member', 'hilp', PRE, 'forward', 'hilp.py', 'return next_phis[0] - phis[0]', 'return next_phis[1] - phis[1]'),
    Bug('phis the other way round', 'hilp', PRE, 'forward', 'hilp.py', 'return next_phis[0] - phis[0]', 'return phis[0] - next_phis[0]'),
    # gradients alone
    Bug('live value in the target', 'iql', PARTIAL, 'backward', Q, "(batch['next_observations'], **goals)", "(batch['next_observations'], **goals, params=grad_params)"),
    Bug('frozen value in its own loss', 'iql', PARTIAL, 'backward', Q, VALUE + '\n        value_loss', VALUE.replace(', params=grad_params', '') + '\n        value_loss'),
    Bug('live advantage', 'iql', FULL, 'backward', Q, "v = self.network.select(f'{prefix}value')(batch['observations'], **goals)\n", "v = self.network.select(f'{prefix}value')(batch['observations'], **goals, params=grad_params)\n"),
    Bug('live target critic', 'iql', PARTIAL, 'backward', Q, "            batch['observations'], actions=batch['actions'], **goals\n        )\n        q = torch", "            batch['observations'], actions=batch['actions'], **goals, params=grad_params\n        )\n        q = torch", lines=("q1, q2 = self.network.select(f'target_{prefix}critic')(",)),
    Bug('no detach of mean |q|', 'infom', FULL, 'backward', 'agent.py', 'q_abs_mean = torch.abs(q).mean().detach()', 'q_abs_mean = torch.abs(q).mean()', config={'normalize_q_loss': True}),
    Bug('latents not detached', 'infom', PRE, 'backward', 'infom.py', 'next_observations, latents.detach(), times', 'next_observations, latents, times'),
    Bug('latents detached for the current flow', 'infom', PRE, 'backward', 'infom.py', '            observations, actions, latents, times, grad_params, current_rng', '            observations, actions, latents.detach(), times, grad_params, current_rng'),
    Bug('means detached in the KL', 'infom', PRE, 'backward', 'infom.py', 'means, log_stds = latent_dist.loc, torch', 'means, log_stds = latent_dist.loc.detach(), torch'),
    Bug('random logits detached', 'td_infonce', PRE, 'backward', 'td_infonce.py', 'random_loss = cross_entropy(random_logits, ', 'random_loss = cross_entropy(random_logits.detach(), '),
    Bug('psi detached', 'td_infonce', PRE, 'backward', 'td_infonce.py', 'pair_logits(random_phi, random_psi)', 'pair_logits(random_phi, random_psi.detach())'),
    Bug('backward representation frozen', 'fb_repr', PRE, 'backward', 'fb_repr.py', "self.network.select('backward_repr')(next_observations, params=grad_params)", "self.network.select('backward_repr')(next_observations)"),
    Bug('live forward representation of the actor', 'fb_repr', PRE, 'backward', 'fb_repr.py', 'forward = self.network.select(\'forward_repr\')(observations, latents, actions, goal_encoded=True)', 'forward = self.network.select(\'forward_repr\')(observations, latents, actions, goal_encoded=True, params=grad_params)'),
    Bug('covariance detached on one side', 'fb_repr', PRE, 'backward', 'fb_repr.py', 'torch.matmul(backward, backward.T)', 'torch.matmul(backward, backward.T.detach())'),
    Bug('critic frozen in its loss', 'rebrac', FULL, 'backward', 'rebrac.py', "q = self.network.select('critic')(observations, batch['actions'], params=grad_params)", "q = self.network.select('critic')(observations, batch['actions'])"),
    Bug('live target critic of ReBRAC', 'rebrac', FULL, 'backward', 'rebrac.py', "next_q = self.network.select('target_critic')(next_observations, next_actions).amin", "next_q = self.network.select('target_critic')(next_observations, next_actions, params=grad_params).amin"),
    Bug('mean |q| not detached', 'rebrac', FULL, 'backward', 'rebrac.py', 'torch.abs(q).mean().detach()', 'torch.abs(q).mean()'),
    Bug('actions detached for the critic', 'rebrac', FULL, 'backward', 'rebrac.py', 'q = self.network.select(\'critic\')(observations, actions).amin', 'q = self.network.select(\'critic\')(observations, actions.detach()).amin'),
    Bug('online actor for the target actor', 'rebrac', FULL, 'forward', 'rebrac.py', "next_dist = self.network.select('target_actor')", "next_dist = self.network.select('actor')"),
    Bug('noise not clipped', 'rebrac', FULL, 'forward', 'rebrac.py', "        noise = clip(noise, -self.config['actor_noise_clip'], self.config['actor_noise_clip'])\n", '', config={'actor_noise': 0.8}),
    Bug('noisy action not clipped', 'rebrac', FULL, 'forward', 'rebrac.py', 'return clip(actions + noise, -1, 1)', 'return actions + noise', config={'actor_noise': 0.8, 'actor_noise_clip': 5.0}),
    Bug('penalty of the batch\'s actions', 'rebrac', FULL, 'forward', 'rebrac.py', "mse = ((next_actions - batch['next_actions']) ** 2)", "mse = ((next_actions - batch['actions']) ** 2)", config={'alpha_critic': 0.1}),
    Bug('mean over the ensemble', 'rebrac', FULL, 'forward', 'rebrac.py', '(next_observations, next_actions).amin(axis=0)', '(next_observations, next_actions).mean(axis=0)'),
    Bug('mode without tanh', 'rebrac', PRE, 'forward', 'distributions.py', 'return torch.tanh(self.loc)', 'return self.loc'),
    # random draws
    Bug('draws in another order', 'rebrac', FULL, 'draw', 'rebrac.py', 'rng, actor_rng, critic_rng = random.split(rng, 3)', 'rng, critic_rng, actor_rng = random.split(rng, 3)'),
    Bug('key used again', 'infom', PRE, 'draw', 'infom.py', 'observations, actions, latents, times, grad_params, current_rng', 'observations, actions, latents, times, grad_params, time_rng'),
    Bug('one latent for all goals drawn per goal', 'fb_repr', PRE, 'draw', 'fb_repr.py', 'mix = random.uniform(mix_rng, (*actions.shape[:-1], 1), actions.dtype)', 'mix = random.uniform(mix_rng, actions.shape[:-1] + (self.config[\'latent_dim\'],), actions.dtype)'),
    Bug('uniform for normal', 'hilp', PRE, 'draw', 'hilp.py', 'latents = random.normal(rng, (*actions.shape[:-1]', 'latents = random.uniform(rng, (*actions.shape[:-1]'),
    Bug('live critic of the actor', 'infom', FULL, 'backward', 'infom.py', "qs = self.network.select('critic')(batch['observations'], actions)", "qs = self.network.select('critic')(batch['observations'], actions, params=grad_params)"),
    Bug('phi detached', 'hilp', PRE, 'backward', 'networks.py', 'phi_g = goals if is_phi else self.features(goals)', 'phi_g = goals if is_phi else self.features(goals).detach()'),
)

# Written after the method was finished, and not used to adjust it.
UNSEEN = (
    Bug('penalty without square', 'crl_infonce', PRE, 'forward', 'crl_infonce.py', 'logsumexp(logits, 1) ** 2', 'logsumexp(logits, 1)'),
    Bug('logsumexp over the other axis', 'crl_infonce', PRE, 'forward', 'crl_infonce.py', 'logsumexp(logits, 1) ** 2', 'logsumexp(logits, 0) ** 2'),
    Bug('labels of ones', 'crl_infonce', PRE, 'forward', 'infonce.py', 'return torch.eye(logits.shape[0]).to(logits)', 'return torch.ones(logits.shape[0], logits.shape[0]).to(logits) / 5'),
    Bug('cross-entropy by mean', 'crl_infonce', PRE, 'forward', 'infonce.py', 'log_softmax(logits, axis)).sum(axis=axis)', 'log_softmax(logits, axis)).mean(axis=axis)'),
    Bug('actor goals for value goals', 'crl_infonce', PRE, 'forward', 'crl_infonce.py', "            batch['value_goals'],\n            batch['actions'],", "            batch['actor_goals'],\n            batch['actions'],"),
    Bug('mean of the logarithms', 'crl_infonce', FULL, 'forward', 'crl_infonce.py', 'torch.log(maximum(v, 1e-6)).amin(axis=0)', 'torch.log(maximum(v, 1e-6)).mean(axis=0)'),
    Bug('value without exp', 'crl_infonce', FULL, 'forward', 'networks.py', 'v = torch.exp(v) if self.value_exp else v', 'v = v'),
    Bug('reward of observations', 'crl_infonce', FULL, 'forward', 'infonce.py', "self.network.select('reward')(batch['actor_goals'])", "self.network.select('reward')(batch['observations'])"),
    Bug('reward of next observations', 'td_infonce', FULL, 'forward', 'agent.py', "rewards = self.network.select('reward')(batch['observations'], params=grad_params)", "rewards = self.network.select('reward')(batch['next_observations'], params=grad_params)"),
    Bug('next actions of the batch', 'td_infonce', FULL, 'forward', 'td_infonce.py', 'critic_loss, critic_info = self.contrastive_loss(batch, grad_params, next_actions)', "critic_loss, critic_info = self.contrastive_loss(batch, grad_params, batch['next_actions'])"),
    Bug('identity added, not multiplied', 'td_infonce', PRE, 'forward', 'td_infonce.py', 'logits = identity[..., None] * next_logits +', 'logits = identity[..., None] + next_logits +'),
    Bug('discount on the wrong term', 'td_infonce', PRE, 'forward', 'td_infonce.py', '((1 - discount) * next_loss + discount * random_loss)', '(next_loss + discount * random_loss)'),
    Bug('v1 twice', 'hilp', PRE, 'forward', 'hilp.py', 'value_loss2 = expectile_loss(adv, q2 - v2,', 'value_loss2 = expectile_loss(adv, q2 - v1,'),
    Bug('advantage of each member', 'hilp', PRE, 'forward', 'hilp.py', 'value_loss1 = expectile_loss(adv, q1 - v1,', 'value_loss1 = expectile_loss(q1 - v1, q1 - v1,'),
    Bug('masks of the batch', 'hilp', PRE, 'forward', 'hilp.py', "discounts = self.config['discount'] * batch['relabeled_masks']", "discounts = self.config['discount'] * batch['masks']"),
    Bug('rewards of the batch', 'hilp', PRE, 'forward', 'hilp.py', "        batch = {**batch, 'rewards': rewards}\n", ''),
    Bug('goal encoded from the wrong side', 'hilp', PRE, 'forward', 'networks.py', 'phi_g = goals if is_phi else self.features(goals)', 'phi_g = goals if is_phi else self.features(observations)'),
    Bug('sign of the measures', 'fb_repr', PRE, 'forward', 'fb_repr.py', 'repr_diag_loss = -torch.diagonal(measures', 'repr_diag_loss = torch.diagonal(measures'),
    Bug('one target for each member', 'fb_repr', PRE, 'forward', 'fb_repr.py', "(measures - self.config['discount'] * target_measure)", "(measures - self.config['discount'] * target_measures)"),
    Bug('coefficient forgotten', 'fb_repr', PRE, 'forward', 'fb_repr.py', "ortho_loss = self.config['orthonorm_coeff'] * (", 'ortho_loss = (', config={'orthonorm_coeff': 0.7}),
    Bug('observations for next observations', 'fb_repr', PRE, 'forward', 'fb_repr.py', "self.network.select('target_backward_repr')(next_observations)", "self.network.select('target_backward_repr')(observations)"),
    Bug('alpha of the other loss', 'fb_repr', PRE, 'forward', 'fb_repr.py', "q, dist, batch['actions'], self.config['alpha_repr'],", "q, dist, batch['actions'], self.config['alpha_awr'],", config={'alpha_awr': 3.0}),
    Bug('no residual to the state', 'mbpo_rebrac', PRE, 'forward', 'mbpo_rebrac.py', "obs_res = batch['next_observations'] - batch['observations']", "obs_res = batch['next_observations']"),
    Bug('batch for the model batch', 'mbpo_rebrac', FULL, 'forward', 'mbpo_rebrac.py', 'self.critic_loss(model_batch, grad_params, critic_rng)', 'self.critic_loss(batch, grad_params, critic_rng)'),
    Bug('centre added', 'dino_rebrac', PRE, 'forward', 'dino_rebrac.py', '(view) - center', '(view) + center + 0.1'),
    Bug('temperatures swapped', 'dino_rebrac', PRE, 'forward', 'dino_rebrac.py', "targets = softmax(targets / self.config['target_repr_temp'], -1)", "targets = softmax(targets / self.config['repr_temp'], -1)"),
    Bug('one view twice', 'dino_rebrac', PRE, 'draw', 'dino_rebrac.py', 'for view_rng in (view1_rng, view2_rng))', 'for view_rng in (view1_rng, view1_rng))'),
    Bug('noise not clipped in the views', 'dino_rebrac', PRE, 'forward', 'dino_rebrac.py', 'return observations + clip(noise, -clip_at, clip_at)', 'return observations + noise', config={'repr_noise': 0.9}),
    Bug('minimum of the value and the critic', 'iql', FULL, 'forward', Q, 'adv = torch.minimum(q1, q2) - v', 'adv = torch.minimum(q1, v) - v'),
    Bug('weight without sign', 'iql', FULL, 'forward', Q, 'actor_loss = -(weight * log_prob).mean()', 'actor_loss = (weight * log_prob).mean()'),
    Bug('mean by sum over B', 'rebrac', FULL, 'forward', 'rebrac.py', "bc_loss = (self.config['alpha_actor'] * mse).mean()", "bc_loss = (self.config['alpha_actor'] * mse).sum()", config={'alpha_actor': 0.1}),
    Bug('q normalised by its mean', 'rebrac', FULL, 'forward', 'rebrac.py', 'torch.abs(q).mean().detach()', 'torch.abs(q.mean()).detach()'),
    Bug('latents of the current state', 'infom', PRE, 'forward', 'infom.py', "            batch['next_observations'], next_actions, params=grad_params\n", "            batch['observations'], next_actions, params=grad_params\n"),
    Bug('actions for next actions', 'infom', PRE, 'forward', 'infom.py', '            path, times, next_observations, next_actions, latents\n', '            path, times, next_observations, actions, latents\n'),
    Bug('KL without half', 'infom', PRE, 'forward', 'infom.py', 'kl_loss = -0.5 * (1', 'kl_loss = -(1'),
    Bug('float32 in the middle', 'infom', PRE, 'forward', 'infom.py', 'return ((velocity - pred) ** 2).mean(axis=-1)\n\n', 'return ((velocity - pred).float() ** 2).mean(axis=-1).double()\n\n'),
    Bug('targets not detached in DINO', 'dino_rebrac', PRE, 'backward', 'dino_rebrac.py', "targets = self.network.select('target_encoder')(view) - center", "targets = self.network.select('target_encoder')(view, params=grad_params) - center"),
    Bug('logits detached', 'crl_infonce', PRE, 'backward', 'infonce.py', "torch.einsum('eik,ejk->ije', phi, psi) /", "torch.einsum('eik,ejk->ije', phi.detach(), psi) /"),
    Bug('live critic of the contrastive actor', 'crl_infonce', FULL, 'backward', 'crl_infonce.py', "v = self.network.select('critic')(batch['observations'], batch['actor_goals'], actions)", "v = self.network.select('critic')(batch['observations'], batch['actor_goals'], actions, params=grad_params)"),
    Bug('live reward of the contrastive actor', 'td_infonce', FULL, 'backward', 'infonce.py', "self.network.select('reward')(batch['actor_goals'])", "self.network.select('reward')(batch['actor_goals'], params=self.network.params)"),
    Bug('clamp for maximum', 'iql', FULL, 'backward', 'layers.py', 'return torch.minimum(torch.maximum(x, low), high)', 'return torch.clamp(x, low, high)', config={'actor_loss': 'ddpgbc', 'const_std': False}),
    Bug('live latents of the actor', 'fb_repr', PRE, 'backward', 'fb_repr.py', 'next_backward = normalize_latents(self.network.select(\'target_backward_repr\')(next_observations))', 'next_backward = normalize_latents(self.network.select(\'target_backward_repr\')(next_observations, params=grad_params))'),
    Bug('log std detached', 'infom', PRE, 'backward', 'networks.py', 'return DiagonalGaussian(means, torch.exp(log_stds))', 'return DiagonalGaussian(means, torch.exp(log_stds.detach()))'),
    Bug('q detached in the actor', 'hilp', FULL, 'backward', Q, 'value_loss = expectile_loss(q - v, q - v,', 'value_loss = expectile_loss(q - v, q - v.detach(),'),
    Bug('predictions detached', 'mbpo_rebrac', PRE, 'backward', 'mbpo_rebrac.py', 'transition_loss = ((pred - obs_res) ** 2).mean()', 'transition_loss = ((pred - obs_res) * (pred - obs_res).detach()).mean()'),
)

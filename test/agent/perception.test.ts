import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createPerception, type Sensor } from '../../src/agent/perception.js';
import { type Matrix, matrix } from '../../src/base/linalg.js';
import { createRandom } from '../../src/base/random.js';

const eye = (n: number, scale = 1): Matrix =>
  matrix(
    n,
    n,
    Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? scale : 0)),
  );

test('two readings of a state at rest are weighed by their precision', () => {
  const sensor = (name: string, variance: number): Sensor => ({ name, view: eye(1), noise: eye(1, variance) });
  const perception = createPerception([sensor('a', 0.5), sensor('b', 2)], { carry: eye(1), noise: eye(1, 0) }, { mean: Float64Array.of(1), covariance: eye(1, 4) }); // biome-ignore format: one call
  const { mean, covariance, surprise } = perception.perceive({ a: [2], b: [5] });
  const precision = 1 / 4 + 1 / 0.5 + 1 / 2;
  assert.ok(Math.abs(mean[0] - (1 / 4 + 2 / 0.5 + 5 / 2) / precision) < 1e-12);
  assert.ok(Math.abs(covariance.data[0] - 1 / precision) < 1e-12);
  // Joint density of the readings: normal around 1, covariance [[4.5, 4], [4, 6]].
  const det = 4.5 * 6 - 16;
  const quadratic = (1 * 6 - 2 * 1 * 4 * 4 + 16 * 4.5) / det;
  assert.ok(Math.abs(2 * surprise - (0.5 * quadratic + 0.5 * Math.log(det) + Math.log(2 * Math.PI))) < 1e-12);
  assert.throws(() => perception.perceive({ c: [1] }), /no sensor "c"/);
  const silent = perception.perceive({});
  assert.equal(silent.mean[0], mean[0]);
  assert.ok(Number.isNaN(silent.surprise) && silent.heard.length === 0);
});

test('three sensors, each silent 30 % of the time, are better together than the best one', () => {
  const random = createRandom(3);
  const carry = matrix(2, 2, [1, 1, 0, 0.95]);
  const noise = matrix(2, 2, [0.01, 0, 0, 0.02]);
  const steer = matrix(2, 1, [0, 0.1]);
  const sensors: Sensor[] = [
    { name: 'near', view: matrix(1, 2, [1, 0]), noise: eye(1, 0.3) },
    { name: 'far', view: matrix(1, 2, [1, 0]), noise: eye(1, 1) },
    { name: 'speed', view: matrix(1, 2, [0, 1]), noise: eye(1, 0.05) },
  ];
  const start = { mean: new Float64Array(2), covariance: eye(2) };
  const all = createPerception(sensors, { carry, steer, noise }, start);
  const single = sensors.map((sensor) => createPerception([sensor], { carry, steer, noise }, start));
  const state = Float64Array.of(random.normal(), random.normal());
  const errors = new Float64Array(4);
  let [calibration, steps] = [0, 0];
  for (let t = 0; t < 500; t++) {
    const action = Math.sin(t / 9);
    const [p, v] = state;
    state[0] = p + v + 0.1 * random.normal();
    state[1] = 0.95 * v + 0.1 * action + Math.sqrt(0.02) * random.normal();
    const readings: Record<string, number[]> = {};
    for (const { name, view, noise } of sensors) {
      const value = view.data[0] * state[0] + view.data[1] * state[1] + Math.sqrt(noise.data[0]) * random.normal();
      if (random.uniform() >= 0.3) readings[name] = [value];
    }
    const percept = all.perceive(readings, [action]);
    errors[0] += (percept.mean[0] - state[0]) ** 2;
    single.forEach((perception, i) => {
      const own = sensors[i].name;
      const heard = own in readings ? { [own]: readings[own] } : {};
      errors[i + 1] += (perception.perceive(heard, [action]).mean[0] - state[0]) ** 2;
    });
    const [a, b, , d] = percept.covariance.data;
    const [x, y] = [state[0] - percept.mean[0], state[1] - percept.mean[1]];
    calibration += (x * x * d - 2 * x * y * b + y * y * a) / (a * d - b * b);
    steps++;
  }
  const best = Math.min(...errors.subarray(1));
  assert.ok(errors[0] < 0.9 * best, `together ${errors[0]}, alone ${errors.subarray(1)}`);
  // The squared error in units of its own covariance is 2 on average, if the uncertainty is right.
  assert.ok(Math.abs(calibration / steps - 2) < 0.35, `${calibration / steps}`);
});

test('a dot behind a screen for ten frames is followed better than by where it was last seen (P3)', () => {
  const random = createRandom(4);
  const carry = matrix(4, 4, [1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 1]);
  const noise = eye(4, 1e-3);
  const eyes: Sensor = { name: 'eyes', view: matrix(2, 4, [1, 0, 0, 0, 0, 1, 0, 0]), noise: eye(2, 0.25) };
  let [filter, lastSeen] = [0, 0];
  for (let episode = 0; episode < 40; episode++) {
    const state = Float64Array.from([0, 0, 1, 1], (s, i) => s + (i < 2 ? 5 : 1) * random.normal());
    const perception = createPerception(
      [eyes],
      { carry, noise },
      { mean: new Float64Array(4), covariance: eye(4, 30) },
    );
    let seen = [0, 0];
    for (let t = 0; t < 25; t++) {
      for (const i of [0, 1]) state[i] += state[i + 2] + 0.03 * random.normal();
      for (const i of [2, 3]) state[i] += 0.03 * random.normal();
      const hidden = t >= 15;
      const reading = [state[0] + 0.5 * random.normal(), state[1] + 0.5 * random.normal()];
      const { mean } = perception.perceive(hidden ? {} : { eyes: reading });
      if (!hidden) seen = reading;
      else {
        filter += Math.hypot(mean[0] - state[0], mean[1] - state[1]);
        lastSeen += Math.hypot(seen[0] - state[0], seen[1] - state[1]);
      }
    }
  }
  assert.ok(filter < 0.5 * lastSeen, `filter ${filter / 400}, last seen ${lastSeen / 400}`);
});

type Row = ArrayLike<number>;

/**
 * Soft places: exp(-|s - centre|^2 / 2 width^2) for `count` centres among the states given, each the farthest from those
 * before, and a width of the mean distance to the nearest other. A critic that is linear in these can have any shape.
 */
export function radialFeatures(states: readonly Row[], count: number): (state: Row) => Float64Array {
  const squares = (a: Row, b: Row): number => {
    let total = 0;
    for (let i = 0; i < b.length; i++) total += (a[i] - b[i]) ** 2;
    return total;
  };
  const centres = [states[0]];
  const apart = Float64Array.from(states, (s) => squares(s, centres[0]));
  while (centres.length < Math.min(count, states.length)) {
    const farthest = apart.indexOf(apart.reduce((a, b) => Math.max(a, b)));
    centres.push(states[farthest]);
    for (const [i, s] of states.entries()) apart[i] = Math.min(apart[i], squares(s, states[farthest]));
  }
  const nearest = centres.map((c) => Math.sqrt(Math.min(...centres.map((d) => (d === c ? Infinity : squares(c, d))))));
  const width = nearest.reduce((a, b) => a + b, 0) / nearest.length;
  return (state) => Float64Array.from(centres, (centre) => Math.exp(-squares(state, centre) / (2 * width * width)));
}

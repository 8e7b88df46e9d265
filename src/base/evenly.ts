/** At most `most` of the numbers 0 to total - 1, evenly spread and in their order: all of them where they are no more. */
export function evenly(total: number, most: number): Int32Array {
  const count = Math.min(most, total);
  return Int32Array.from({ length: count }, (_, i) => Math.floor((i * total) / count));
}

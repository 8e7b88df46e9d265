export async function quickstart(overrides: readonly string[], options: object): Promise<void> {
  console.log(overrides, options);
}

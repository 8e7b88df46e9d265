/** An error that a person can act on: one line naming what went wrong, where, and the fix. The command line prints only its message. */
export class JepaError extends Error {
  override name = 'JepaError';
}

/** Bad use of the command line or of a configuration (exit code 2). */
export class UsageError extends JepaError {
  override name = 'UsageError';
}

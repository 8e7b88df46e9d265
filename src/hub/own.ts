/** What files of this package say of who made them, where their format has room for it. */
export const PRODUCER = 'jepa';

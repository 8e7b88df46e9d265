/** A queue that gives the first of its items, by `isBefore`, in logarithmic time. */
export interface Heap<T> {
  readonly size: number;
  push(item: T): void;
  /** Removes and returns the first item; undefined when empty. */
  pop(): T | undefined;
}

/** An empty binary heap. */
export function binaryHeap<T>(isBefore: (a: T, b: T) => boolean): Heap<T> {
  const items: T[] = [];
  return {
    get size() {
      return items.length;
    },
    push(item) {
      let at = items.push(item) - 1;
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (!isBefore(item, items[parent])) break;
        items[at] = items[parent];
        at = parent;
      }
      items[at] = item;
    },
    pop() {
      const top = items[0];
      const last = items.pop();
      if (last === undefined || items.length === 0) return top;
      let at = 0;
      for (let child = 1; child < items.length; child = 2 * at + 1) {
        if (child + 1 < items.length && isBefore(items[child + 1], items[child])) child++;
        if (!isBefore(items[child], last)) break;
        items[at] = items[child];
        at = child;
      }
      items[at] = last;
      return top;
    },
  };
}

// Actions on the picture, by pointer, key or clipboard.
import { useEffect, useMemo, useRef } from "./vendor/preact.js";

export function useActions(setInput) {
  return useMemo(() => {
    // Only the newest file is shown, so only its URL is kept.
    const replace = (next) => setInput((input) => {
      if (input.url) URL.revokeObjectURL(input.url);
      return { ...next, touched: true };
    });
    return {
      stroke: (points, begins) => setInput((input) => {
        if (input.url) URL.revokeObjectURL(input.url);
        const strokes = input.strokes ?? [];
        return { strokes: [...(begins ? strokes : strokes.slice(0, -1)), points], touched: true };
      }),
      undo: () => setInput((input) => (input.strokes ? { strokes: input.strokes.slice(0, -1), touched: true } : input)),
      clear: () => replace({ strokes: [] }),
      file: (file) => replace({ file, name: file.name || "picture.png", url: URL.createObjectURL(file) }),
    };
  }, []);
}

// Keyboard shortcuts, by letter; ignored while typing.
export function useKeys(byKey) {
  const newest = useRef();
  newest.current = byKey;
  useEffect(() => {
    const press = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
      newest.current[event.key.toLowerCase()]?.();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

export function usePaste(onFile) {
  useEffect(() => {
    const paste = (event) => {
      const [file] = event.clipboardData?.files ?? [];
      if (file) onFile(file);
    };
    // A picture dropped outside the pad would otherwise replace the page.
    const refuse = (event) => event.preventDefault();
    addEventListener("paste", paste);
    addEventListener("dragover", refuse);
    addEventListener("drop", refuse);
    return () => {
      removeEventListener("paste", paste);
      removeEventListener("dragover", refuse);
      removeEventListener("drop", refuse);
    };
  }, []);
}

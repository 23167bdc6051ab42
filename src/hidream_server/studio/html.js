// What every view is written with: components as functions, markup as tagged templates, and state
// as signals: a component that reads one is drawn again when it changes.
import { h, render } from "./vendor/preact.js";
import { useEffect, useRef } from "./vendor/hooks.js";
import { batch, computed, effect, signal, useSignal } from "./vendor/signals.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { batch, computed, effect, render, signal, useEffect, useRef, useSignal };

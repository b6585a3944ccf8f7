// The paths of the console's pages.

import { root } from "./api.js";

const pathOf = (page) => (id) => `${root}/console/${page}/${encodeURIComponent(id)}`;

export const requestPath = pathOf("requests");
export const runPath = pathOf("runs");
export const sessionPath = pathOf("sessions");

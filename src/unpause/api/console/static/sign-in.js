import { byId } from "./dom.js";
import { nextPage, onSubmit, present } from "./entry.js";

onSubmit(byId("sign-in"), "/console/sign-in", () => ({ token: byId("token").value }));
byId("token").focus();
// On a server without authentication, and in a browser that is signed in.
if (await present()) location.replace(nextPage());

// post: a fetch that throws what went wrong
import { post } from "./http.js";
// in your app: import { Whisp } from "whisp-sdk"
import { Whisp } from "./whisp-client.js";

export const whisp = new Whisp({ baseUrl: `${location.origin}/whisp` }); // 1

export async function startChat() {
  whisp.setAuth(await post("/auth/whisp/sign-in")); // 2
  await whisp.connect(); // 3
}

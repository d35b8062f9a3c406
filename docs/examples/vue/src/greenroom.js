// The one client of this page. Where a real frontend asks its own server for a token, this one asks you.
import { connect } from "greenroom-client";
import { createGreenroom } from "greenroom-client/vue";
import * as Vue from "vue";

export const token = Vue.ref(sessionStorage.getItem("token"));

let greenroom = null;

/** The composables; there is a client from the first call on. */
export function useGreenroom() {
  greenroom ??= createGreenroom(Vue, connect({ getToken: () => token.value }));
  return greenroom;
}

export function signIn(given) {
  sessionStorage.setItem("token", given);
  token.value = given;
}

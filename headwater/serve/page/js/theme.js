// Before anything is drawn, so that a dark page is dark from its first moment.
try {
  document.documentElement.dataset.theme = localStorage.getItem("headwater.theme") ?? "auto";
} catch { /* a browser that keeps nothing follows the device */ }

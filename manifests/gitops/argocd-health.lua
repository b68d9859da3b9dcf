-- Health of KubeDR's four kinds for Argo CD, from their conditions. In ConfigMap argocd-cm, as
-- resource.customizations.health.kubedr.catalogicsoftware.com_<Kind>, once for each kind.
local health = { status = "Progressing", message = "the controller has yet to look at it" }
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return health
end
local stalled = false
for _, condition in ipairs(status.conditions) do
  if condition.type == "Stalled" and condition.status == "True" then
    stalled = true
  end
end
for _, condition in ipairs(status.conditions) do
  if condition.type == "Ready" then
    health.message = condition.message
    if condition.status == "True" then
      health.status = condition.reason == "Suspended" and "Suspended" or "Healthy"
    elseif stalled then
      health.status = "Degraded"
    end
  end
end
return health

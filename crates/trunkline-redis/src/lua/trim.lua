-- Drops what a topic's retention allows, oldest first, but nothing that a group has yet to settle.
-- KEYS: streams. ARGV: age in ms or '', bytes of one stream or ''. Gives how many entries were dropped.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function parts(id)
  local a, b = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(a), tonumber(b)
end
local function lower(x, y)
  if not x then return y end
  local a, b = parts(x)
  local c, d = parts(y)
  if a < c or (a == c and b < d) then return x end
  return y
end
local dropped = 0
for _, stream in ipairs(KEYS) do
  if redis.call('EXISTS', stream) == 1 then
    local bound
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local info = fields(flat)
      bound = lower(bound, info['last-delivered-id'])
      if info['pending'] > 0 then
        bound = lower(bound, redis.call('XPENDING', stream, info['name'])[2])
      end
    end
    if ARGV[1] ~= '' then
      local oldest = string.format('%.0f-0', math.max(0, now - ARGV[1]))
      dropped = dropped + redis.call('XTRIM', stream, 'MINID', '~', lower(bound, oldest))
    end
    if ARGV[2] ~= '' then
      local bytes, max = redis.call('MEMORY', 'USAGE', stream), tonumber(ARGV[2])
      local surplus = math.floor(redis.call('XLEN', stream) * (bytes - max) / bytes)
      if surplus > 0 then
        local everything = '18446744073709551615-18446744073709551615'
        dropped = dropped
          + redis.call('XTRIM', stream, 'MINID', '~', bound or everything, 'LIMIT', surplus)
      end
    end
  end
end
return dropped

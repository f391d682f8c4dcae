-- Where a group stands in a stream: its position, and how many entries were read up to there (-1:
-- unknown). A group that is missing begins at the earliest.
local function fields(flat)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local function group_of(stream, group)
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = fields(flat)
    if info['name'] == group then return info end
  end
end

local function open(stream, group)
  local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then
    return nil, made
  end
  local info = group_of(stream, group)
  local read = info['entries-read']
  if not read and info['lag'] then
    read = fields(redis.call('XINFO', 'STREAM', stream))['entries-added'] - info['lag']
  end
  return { info['last-delivered-id'], read or -1 }
end


-- How many entries of some streams a group has not settled, or lie after a reader's positions.
-- KEYS: streams. ARGV: group or '', then the position of a reader in each.
-- Exact wherever Redis itself knows; where it lost count (a start in the middle of a stream), an estimate
-- from the times in the ids, until the end was reached once.
local function millis(id) return tonumber(string.match(id, '^%d+')) end
local total = 0
for i, stream in ipairs(KEYS) do
  local position, known = ARGV[1 + i], nil
  if ARGV[1] ~= '' then
    local info = group_of(stream, ARGV[1])
    if info then
      position, known = info['last-delivered-id'], info['lag']
      total = total + info['pending']
    else
      position = '0-0'
    end
  end
  local after = redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', 1)
  if #after > 0 then
    local length = redis.call('XLEN', stream)
    local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1]
    if first == after[1][1] then
      total = total + length
    elseif known then
      total = total + math.min(known, length)
    else
      local begin, last = millis(first), millis(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1])
      local part = last > begin and (last - millis(position)) / (last - begin) or 1
      total = total + math.max(1, math.min(length, math.floor(length * part)))
    end
  end
end
return total
